"""The rounds that the mini HuBERT is trained in, and the folder that it ships as."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import HubertModel

from ...encoders.speech import SpeechEncoder
from ...pretrain.spectral_start import learn_spectrum
from ...runtime.devices import find_device
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...structures import SpeechBatch, StepOutput
from ..speech import SpeechCorpus
from .hubert import ARCHITECTURE, MaskedCrops, MaskedPrediction, MaskingConfig, build_hubert
from .loop import LoopConfig, train
from .units import Features, HiddenStateFeatures, MfccFeatures, Units, make_units
from .voices import AS_THEY_ARE, VoiceConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RoundConfig:
    steps: int
    """Optimiser steps."""
    units: int
    """Clusters that are predicted."""
    layer: int | None = None
    """Hidden state of the round before that is clustered, 0 what enters the first layer; MFCC
    without one."""
    lr: float = 1e-3
    """Highest learning rate."""
    warmup_steps: int = 200
    batch_seconds: float = 24.0
    """Of speech in a batch."""
    voices: VoiceConfig = AS_THEY_ARE
    """How far voices are changed."""


ROUNDS = (
    RoundConfig(steps=2_800, units=100),
    RoundConfig(steps=2_400, units=200, layer=3),
    RoundConfig(
        steps=8_000,
        units=200,
        layer=3,
        voices=VoiceConfig(speed=1.25, gain=4.0, noise=(15.0, 50.0)),
    ),
)
"""The first learns sounds, the second better ones, the third the same whoever says them."""


@dataclass(frozen=True, kw_only=True)
class HubertRecipe:
    seed: int = 0
    spectral_steps: int = 200
    """First lesson of the convolutions, see `pretrain.spectral_start`."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    rounds: tuple[RoundConfig, ...] = ROUNDS
    """Each goes on from the weights of the one before."""


@dataclass(frozen=True)
class Trained:
    """A trained mini HuBERT."""

    model: HubertModel
    seconds: float
    """Of training, without clustering."""
    accuracy: dict[str, float]
    """Of the last round on the split `dev`, in percent."""


def train_hubert(
    corpus: SpeechCorpus, recipe: HubertRecipe, folder: Path, device: str = "auto"
) -> Trained:
    """Train the mini HuBERT from nothing; a folder that holds a part of it is gone on with.

    Args:
        corpus: split `train` is learned from, `dev` measured on.
        recipe: of all rounds.
        folder: for units, logs and checkpoints.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    torch.manual_seed(recipe.seed)
    model = build_hubert()
    seconds = 0.0
    for number, config in enumerate(recipe.rounds, 1):
        features = (
            MfccFeatures() if config.layer is None else _hidden_states(model, config.layer, device)
        )
        units = make_units(corpus, features, config.units, folder / f"units-{number}", recipe.seed)
        spent, accuracy = _round(
            model, corpus, units, recipe, config, folder / f"round-{number}", device
        )
        seconds += spent
    return Trained(model.cpu().eval(), seconds, accuracy)


def ship(model: HubertModel, folder: Path) -> Path:
    """Write what ships: transformers' folder of a HubertModel, float16, without mask embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "masked_spec_embed"
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["HubertModel"],
        "model_type": "hubert",
        **ARCHITECTURE,
        "mask_time_prob": 0.0,
        "dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def _round(
    model: HubertModel,
    corpus: SpeechCorpus,
    units: Units,
    recipe: HubertRecipe,
    config: RoundConfig,
    folder: Path,
    device: str,
) -> tuple[float, dict[str, float]]:
    task = MaskedPrediction(model, units.count, recipe.masking)
    place = find_device(device)
    crops = MaskedCrops(
        corpus, units, recipe.masking, config.batch_seconds, recipe.seed, voices=config.voices
    )
    if config.layer is None and not (folder / "state.pt").is_file():
        _learn_spectrum(model.to(place), crops, recipe.spectral_steps, place)

    def losses(step: int) -> StepOutput:
        return task(*(part.to(place) for part in crops.batch(step)))

    loop = LoopConfig(
        total_steps=config.steps,
        optimizer=OptimizerConfig(name="adamw", lr=config.lr, weight_decay=0.01, betas=(0.9, 0.98)),
        scheduler=SchedulerConfig(warmup_steps=config.warmup_steps, final_lr=1e-6),
    )
    logger.info("masked prediction of %d units: %s", units.count, asdict(config))
    seconds = train(task, losses, loop, folder, device, recipe.seed)
    heldout = replace(crops, splits=("dev",), voices=AS_THEY_ARE)
    return seconds, _accuracy(task, heldout, place)


@torch.no_grad()
def _accuracy(
    task: MaskedPrediction, crops: MaskedCrops, place: torch.device, batches: int = 20
) -> dict[str, float]:
    """Give the share of frames whose unit is predicted, in percent, masked and not."""
    task.eval()
    reports = [task(*(p.to(place) for p in crops.batch(step))).report for step in range(batches)]
    return {
        name: round(100 * sum(report[name] for report in reports) / batches, 2)
        for name in reports[0]
    }


def _learn_spectrum(
    model: HubertModel, crops: MaskedCrops, steps: int, place: torch.device
) -> None:
    encoder = SpeechEncoder(model, trainable=True, normalize_waveform=True)
    autocast = torch.autocast(place.type, torch.bfloat16)
    error = learn_spectrum(encoder, _speech(crops, place), steps, autocast)
    model.requires_grad_(True)
    logger.info("spectrum learned in %d steps: %.2f of its variance is left", steps, error)


def _speech(crops: MaskedCrops, place: torch.device) -> Iterator[SpeechBatch]:
    step = 1 << 40  # far from the steps of the rounds
    while True:
        waveforms, _, _ = crops.batch(step)
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
        yield SpeechBatch(waveforms, lengths).to(place)
        step += 1


def _hidden_states(model: HubertModel, layer: int, device: str) -> Features:
    place = find_device(device)
    encoder = SpeechEncoder(model.to(place), normalize_waveform=True)  # it freezes the model
    model.requires_grad_(True)

    def encode(speech: SpeechBatch) -> tuple[tuple[Tensor, ...], Tensor]:
        with torch.autocast(place.type, torch.bfloat16):
            features = encoder(speech.to(place))
        return features.hidden_states, features.lengths

    return HiddenStateFeatures(encode, layer)
