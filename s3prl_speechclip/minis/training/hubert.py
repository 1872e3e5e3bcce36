"""The mini HuBERT: masked prediction of units (HuBERT, arXiv 2106.07447)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from ...structures import HOP, SAMPLE_RATE, StepOutput
from ..speech import SpeechCorpus
from .units import WINDOW, Units, frames_of
from .voices import AS_THEY_ARE, VoiceConfig, draw_speeds, frames_heard, played, recoloured

ARCHITECTURE: Mapping[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": [32, 48, 64, 96, 128, 128, 128],
    "feat_extract_activation": "relu",
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "num_conv_pos_embeddings": 64,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": True,
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "initializer_range": 0.06,  # 1 / sqrt(256): transformers' 0.02 is for layers of 768 and more
    "mask_time_prob": 0.08,  # gives the model its mask embedding; the objective draws the masks
    "mask_feature_prob": 0.0,
}
CROPS = tuple(
    round(seconds * SAMPLE_RATE / HOP) * HOP + WINDOW - HOP
    for seconds in (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2, 2.7, 3.3)
)
"""Samples that recordings are cropped to: each to the longest that it holds, so that batches need
no padding."""


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    probability: float = 0.1
    """Share of frames that a masked span begins at."""
    span: int = 5
    """Frames of a span, 20 ms each; half of the paper's, which a small model learns from sooner."""
    unmasked_weight: float = 0.5
    """Weight of the loss on frames that are not masked; on masked ones it is 1."""
    temperature: float = 0.1
    """Divides the cosine of a frame and a unit's embedding."""
    code_width: int = 128
    """Width of unit embeddings."""


def build_hubert() -> HubertModel:
    """Make the mini HuBERT with random weights."""
    model = HubertModel(HubertConfig(**ARCHITECTURE))
    # As long as frames are, not nine times as long: through the positional convolution long ones
    # would drown the frames that are not masked.
    nn.init.normal_(model.masked_spec_embed, std=0.5)
    return model


class MaskedPrediction(nn.Module):
    """A HuBERT and its objective (HuBERT, eq. 1 to 3).

    Args:
        model: what is trained.
        units: how many there are to predict.
        config: of masks and loss.
    """

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
class MaskedCrops:
    """Batches of crops with their units and masks, each a function of seed and step alone.

    Args:
        corpus: what is read.
        units: of its frames.
        config: of masks.
        batch_seconds: of a batch, about.
        seed: not negative.
        splits: whose recordings are drawn.
        voices: how far voices are changed.
    """

    corpus: SpeechCorpus
    units: Units
    config: MaskingConfig
    batch_seconds: float
    seed: int = 0
    splits: tuple[str, ...] = ("train",)
    voices: VoiceConfig = AS_THEY_ARE
    _buckets: list[tuple[int, NDArray[np.int64]]] = field(init=False)
    _shares: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        indices = [i for split in self.splits for i in self.corpus.split(split)]
        lengths = np.array([self.corpus.recordings[i].length for i in indices])
        # What is played fastest must fill its crop.
        places = np.searchsorted(np.array(CROPS), lengths / self.voices.speed, side="right") - 1
        buckets = [
            (crop, np.array(indices)[places == place])
            for place, crop in enumerate(CROPS)
            if (places == place).any()
        ]
        # A long recording is drawn once for every crop that it holds.
        weights = [sum(self.corpus.recordings[i].length for i in members) for _, members in buckets]
        object.__setattr__(self, "_buckets", buckets)
        object.__setattr__(self, "_shares", np.array(weights) / sum(weights))

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a step's waveforms (B, L), units (B, T) and mask (B, T)."""
        random = np.random.default_rng([self.seed, step])
        crop, members = self._buckets[int(random.choice(len(self._shares), p=self._shares))]
        size = max(2, round(self.batch_seconds * SAMPLE_RATE / crop))
        frames = frames_of(crop)
        lengths = np.array([self.corpus.recordings[i].length for i in members])
        chosen = random.choice(len(members), size, p=lengths / lengths.sum())
        waveforms = np.zeros((size, crop), np.float32)
        units = np.zeros((size, frames), np.int64)
        speeds = draw_speeds(size, self.voices, random)
        for row, (place, speed) in enumerate(zip(chosen, speeds, strict=True)):
            read = min(int(np.ceil(crop * speed)), int(lengths[place]))
            first = int(random.integers((lengths[place] - read) // HOP + 1))
            index = int(members[place])
            start = self.corpus.recordings[index].start + first * HOP
            waveforms[row] = played(self.corpus.samples[start : start + read], speed, crop)
            heard = frames_heard(frames, speed, frames_of(read))
            units[row] = self.units.of(index, first, int(heard[-1]) + 1)[heard]
        waveforms /= 32768  # as recordings are read, so that silence is normalised alike
        waveforms = recoloured(waveforms, self.voices, random)
        waveforms -= waveforms.mean(1, keepdims=True)
        waveforms /= np.sqrt(waveforms.var(1, keepdims=True) + 1e-5)
        masked = draw_mask(size, frames, self.config, random)
        return torch.from_numpy(waveforms), torch.from_numpy(units), torch.from_numpy(masked)


def draw_mask(
    size: int, frames: int, config: MaskingConfig, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw masked spans that may overlap; every row has masked and unmasked frames.

    Returns:
        (size, frames) bool, True where a frame is masked.
    """
    span = min(config.span, max(1, frames // 2))
    starts = random.random((size, frames - span + 1)) < config.probability
    # A row without a span gets one; a row masked from end to end keeps its first frame.
    bare = ~starts.any(1)
    starts[bare, random.integers(frames - span + 1, size=int(bare.sum()))] = True
    masked = np.zeros((size, frames), np.bool_)
    for shift in range(span):
        masked[:, shift : shift + starts.shape[1]] |= starts
    masked[masked.all(1), 0] = False
    return masked
