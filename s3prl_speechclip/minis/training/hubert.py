"""The mini HuBERT: masked prediction of units in rounds (HuBERT, arXiv 2106.07447)."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from ...config import read_yaml
from ...encoders.spectral_start import learn_spectrum
from ...encoders.speech import SpeechEncoder
from ...runtime.devices import find_device
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...structures import SpeechBatch, StepOutput
from .crops import AS_THEY_ARE, MaskedCrops, MaskingConfig, VoiceConfig
from .loop import LoopConfig, train
from .speech import SpeechCorpus
from .units import Features, Units, hidden_states, make_units, mfcc

logger = logging.getLogger(__name__)

ARCHITECTURE = read_yaml(Path(__file__).with_name("architectures.yaml"))["hubert"]

HELDOUT = 20  # batches of the validation


@dataclass(frozen=True, kw_only=True)
class RoundConfig:
    steps: int
    """Optimiser steps."""
    units: int
    """Number of clusters to predict."""
    layer: int | None = None
    """Hidden state of the round before to cluster, 0: the first layer's input; None: MFCC."""
    lr: float = 1e-3
    """Highest learning rate."""
    warmup_steps: int = 200
    batch_seconds: float = 24.0
    """Seconds of speech in a batch."""
    voices: VoiceConfig = AS_THEY_ARE
    """Change of voices."""


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
    """Steps in which the convolutions learn log-mel energies, see `encoders.spectral_start`."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    rounds: tuple[RoundConfig, ...] = ROUNDS
    """Each begins with the weights of the one before."""


def build_hubert() -> HubertModel:
    """Build the mini HuBERT with random weights."""
    model = HubertModel(HubertConfig(**ARCHITECTURE))
    # As long as frames are, not nine times as long: through the positional convolution long ones
    # would drown the frames that are not masked.
    nn.init.normal_(model.masked_spec_embed, std=0.5)
    return model


class MaskedPrediction(nn.Module):
    """A HuBERT and its objective (HuBERT, eq. 1 to 3)."""

    def __init__(self, model: HubertModel, units: int, config: MaskingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.project = nn.Linear(model.config.hidden_size, config.code_width)
        # Short, since only directions count and Adam turns a short vector sooner than a long one.
        self.codes = nn.Parameter(0.05 * torch.randn(units, config.code_width))

    def forward(self, waveforms: Tensor, units: Tensor, masked: Tensor) -> StepOutput:
        """Predict the units of masked frames from those around them.

        Args:
            waveforms: (B, L) of one length, zero mean and unit variance each.
            units: (B, T) int64.
            masked: (B, T) bool.
        """
        hidden = self.model(waveforms, mask_time_indices=masked).last_hidden_state
        codes = F.normalize(self.codes, dim=-1)
        cosines = F.normalize(self.project(hidden), dim=-1) @ codes.T
        logits = cosines.float() / self.config.temperature
        loss = F.cross_entropy(logits.transpose(1, 2), units, reduction="none")
        right = logits.detach().argmax(-1) == units
        return StepOutput(
            {
                "masked": loss[masked].mean(),
                "unmasked": self.config.unmasked_weight * loss[~masked].mean(),
            },
            {
                "accuracy_masked": float(right[masked].float().mean()),
                "accuracy_unmasked": float(right[~masked].float().mean()),
            },
        )


@dataclass(frozen=True)
class TrainedHubert:
    model: HubertModel
    seconds: float
    """Duration of training, without clustering."""
    accuracy: dict[str, float]
    """Accuracy of the last round on the split `dev`, in percent."""


def train_hubert(
    corpus: SpeechCorpus, recipe: HubertRecipe, folder: Path, device: str = "auto"
) -> TrainedHubert:
    """Train the mini HuBERT from random weights, or resume its training in the folder.

    Args:
        corpus: splits `train`, and `dev` for the accuracy.
        recipe: configuration of all rounds.
        folder: place of units, logs and checkpoints.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    torch.manual_seed(recipe.seed)
    model = build_hubert()
    seconds = 0.0
    for number, config in enumerate(recipe.rounds, 1):
        features = mfcc if config.layer is None else _hidden_layer(model, config.layer, device)
        units = make_units(corpus, features, config.units, folder / f"units-{number}", recipe.seed)
        spent, accuracy = _round(
            model, corpus, units, recipe, config, folder / f"round-{number}", device
        )
        seconds += spent
    return TrainedHubert(model.cpu().eval(), seconds, accuracy)


def ship_hubert(model: HubertModel, folder: Path) -> Path:
    """Write the shipped folder: transformers' HubertModel in float16, without mask embedding."""
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
        encoder = SpeechEncoder(model.to(place), trainable=True, normalize_waveform=True)
        autocast = torch.autocast(place.type, torch.bfloat16)
        speech = (
            SpeechBatch(waveforms, torch.full((len(waveforms),), waveforms.shape[1])).to(place)
            for waveforms, _, _ in map(crops.batch, count(1 << 40))  # far from the rounds' steps
        )
        error = learn_spectrum(encoder, speech, recipe.spectral_steps, autocast)
        model.requires_grad_(True)
        logger.info("spectrum learned, %.2f of its variance is left", error)

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
    task.eval()
    with torch.no_grad():
        reports = [
            task(*(part.to(place) for part in heldout.batch(step))).report
            for step in range(HELDOUT)
        ]
    sums = {name: sum(report[name] for report in reports) for name in reports[0]}
    return seconds, {name: round(100 * total / HELDOUT, 2) for name, total in sums.items()}


def _hidden_layer(model: HubertModel, layer: int, device: str) -> Features:
    """Return the features of one hidden state, computed in bfloat16."""
    place = find_device(device)
    encoder = SpeechEncoder(model.to(place), normalize_waveform=True)  # it freezes the model
    model.requires_grad_(True)

    def features(waveforms: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        with torch.autocast(place.type, torch.bfloat16):
            return hidden_states(encoder, waveforms)[layer]

    return features
