"""The mini HuBERT: masked prediction of units in rounds (HuBERT, arXiv 2106.07447)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from ...config import read_yaml
from ...encoders.spectral_start import learn_spectrum
from ...encoders.speech import SpeechEncoder
from ...runtime.devices import find_device
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...structures import SpeechBatch, StepOutput
from .loop import STATE_FILE, train
from .speech import SpeechCorpus
from .units import Array, Features, MaskedCrops, hidden_states, make_units, mfcc

logger = logging.getLogger(__name__)

ARCHITECTURE = read_yaml(Path(__file__).with_name("architectures.yaml"))["hubert"]
OPTIMIZER = OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
SCHEDULER = SchedulerConfig(warmup_steps=200, final_lr=1e-6)
UNMASKED_WEIGHT = 0.5  # of the loss on frames that are not masked; on masked ones it is 1
TEMPERATURE = 0.1  # divides the cosine of a frame and a unit's embedding
CODE_WIDTH = 128  # of unit embeddings


@dataclass(frozen=True, kw_only=True)
class RoundConfig:
    steps: int
    """Optimiser steps."""
    units: int
    """Number of clusters to predict."""
    layer: int | None = None
    """Hidden state of the round before to cluster, 0: the first layer's input; None: MFCC."""
    changed: bool = False
    """Whether voices are changed."""


@dataclass(frozen=True, kw_only=True)
class HubertRecipe:
    seed: int = 0
    spectral_steps: int = 200
    """Steps in which the convolutions learn log-mel energies, see `encoders.spectral_start`."""
    batch_seconds: float = 24.0
    """Seconds of speech in a batch."""
    rounds: tuple[RoundConfig, ...] = (
        RoundConfig(steps=2_800, units=100),
        RoundConfig(steps=2_400, units=200, layer=3),
        RoundConfig(steps=8_000, units=200, layer=3, changed=True),
    )
    """Each begins with the weights of the one before: the first learns sounds, the second better
    ones, the third the same whoever says them."""


def build_hubert() -> HubertModel:
    """Build the mini HuBERT with random weights."""
    model = HubertModel(HubertConfig(**ARCHITECTURE))
    # As long as frames are, not nine times as long: through the positional convolution long ones
    # would drown the frames that are not masked.
    nn.init.normal_(model.masked_spec_embed, std=0.5)
    return model


class MaskedPrediction(nn.Module):
    """A HuBERT and its objective (HuBERT, eq. 1 to 3)."""

    def __init__(self, model: HubertModel, units: int) -> None:
        super().__init__()
        self.model = model
        self.project = nn.Linear(model.config.hidden_size, CODE_WIDTH)
        # Short, since only directions count and Adam turns a short vector sooner than a long one.
        self.codes = nn.Parameter(0.05 * torch.randn(units, CODE_WIDTH))

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
        logits = cosines.float() / TEMPERATURE
        loss = F.cross_entropy(logits.transpose(1, 2), units, reduction="none")
        right = logits.detach().argmax(-1) == units
        return StepOutput(
            {"masked": loss[masked].mean(), "unmasked": UNMASKED_WEIGHT * loss[~masked].mean()},
            {
                "accuracy_masked": float(right[masked].float().mean()),
                "accuracy_unmasked": float(right[~masked].float().mean()),
            },
        )


def train_hubert(
    corpus: SpeechCorpus, recipe: HubertRecipe, folder: Path, device: str = "auto"
) -> HubertModel:
    """Train the mini HuBERT from random weights, or resume its training in the folder."""
    place = find_device(device)
    torch.manual_seed(recipe.seed)
    model = build_hubert()
    for number, config in enumerate(recipe.rounds, 1):
        features = mfcc if config.layer is None else _hidden_layer(model, config.layer, place)
        units = make_units(corpus, features, config.units, folder / f"units-{number}", recipe.seed)
        task = MaskedPrediction(model, config.units)
        crops = MaskedCrops(
            corpus, units, recipe.batch_seconds, recipe.seed, changed=config.changed
        )
        own = folder / f"round-{number}"
        if number == 1 and not (own / STATE_FILE).is_file():
            _learn_spectrum(model, crops, recipe.spectral_steps, place)

        logger.info("masked prediction: %s", config)
        train(
            task,
            partial(_losses, task, crops, place),
            config.steps,
            OPTIMIZER,
            SCHEDULER,
            own,
            device=device,
            seed=recipe.seed,
        )
    return model.cpu().eval()


def ship_hubert(model: HubertModel, folder: Path) -> Path:
    """Write the folder that ships: transformers' HubertModel in float16."""
    del model.masked_spec_embed
    model.config.mask_time_prob = 0.0
    model.half().save_pretrained(folder)
    return folder


def _losses(
    task: MaskedPrediction, crops: MaskedCrops, place: torch.device, step: int
) -> StepOutput:
    output: StepOutput = task(*(part.to(place) for part in crops.batch(step)))
    return output


def _learn_spectrum(
    model: HubertModel, crops: MaskedCrops, steps: int, place: torch.device
) -> None:
    encoder = SpeechEncoder(model.to(place), trainable=True, normalize_waveform=True)
    speech = (
        SpeechBatch(waveforms, torch.full((len(waveforms),), waveforms.shape[1])).to(place)
        for waveforms, _, _ in map(crops.batch, count(1 << 40))  # far from the rounds' steps
    )
    error = learn_spectrum(encoder, speech, steps, torch.autocast(place.type, torch.bfloat16))
    model.requires_grad_(True)
    logger.info("spectrum learned, %.2f of its variance is left", error)


def _hidden_layer(model: HubertModel, layer: int, place: torch.device) -> Features:
    """Return the features of one hidden state, computed in bfloat16."""
    encoder = SpeechEncoder(model.to(place), normalize_waveform=True)  # it freezes the model
    model.requires_grad_(True)

    def features(waveforms: list[Array]) -> list[Array]:
        with torch.autocast(place.type, torch.bfloat16):
            return [states[layer] for states in hidden_states(encoder, waveforms)]

    return features
