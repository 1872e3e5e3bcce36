"""Batches of masked prediction: crops of recordings, their units, masks, and changed voices.

Playing a recording faster or slower moves pitch and formants as another body does (vocal tract
length perturbation, Jaitly and Hinton, 2013; speed perturbation, Ko et al., 2015); a smooth gain
over frequency and noise stand for other microphones and rooms: a unit is to be learned as a sound,
whoever says it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...structures import HOP, SAMPLE_RATE
from .speech import SpeechCorpus
from .units import WINDOW, Units, frames_of

BANDS = 7  # points that the gain over frequency goes through
CROPS = tuple(
    round(seconds * SAMPLE_RATE / HOP) * HOP + WINDOW - HOP
    for seconds in (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2, 2.7, 3.3)
)
"""Lengths of crops in samples: a recording gets the longest that it holds, so that batches need no
padding."""


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


@dataclass(frozen=True, kw_only=True)
class VoiceConfig:
    """Change of voices; the defaults leave them as they are."""

    speed: float = 1.0
    """Greatest factor by which recordings are played faster, or slower."""
    gain: float = 0.0
    """Standard deviation in dB of the gain over frequency."""
    noise: tuple[float, float] | None = None
    """Least and greatest level of white noise in dB under the speech."""


AS_THEY_ARE = VoiceConfig()


@dataclass
class MaskedCrops:
    """Batches of crops with their units and masks, each a function of seed and step alone.

    Args:
        corpus: recordings.
        units: units of their frames.
        config: masks.
        batch_seconds: seconds of speech in a batch, about.
        seed: seed of all draws, not negative.
        splits: splits that recordings are drawn from.
        voices: change of voices.
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
        # The fastest one must fill its crop.
        places = np.searchsorted(np.array(CROPS), lengths / self.voices.speed, side="right") - 1
        buckets = [
            (crop, np.array(indices)[places == place])
            for place, crop in enumerate(CROPS)
            if (places == place).any()
        ]
        # A long recording is drawn once for every crop that it holds.
        weights = [sum(self.corpus.recordings[i].length for i in members) for _, members in buckets]
        self._buckets, self._shares = buckets, np.array(weights) / sum(weights)

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
            under = source_frames(frames, speed, frames_of(read))
            units[row] = self.units.of(index, first, int(under[-1]) + 1)[under]
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


def draw_speeds(
    count: int, config: VoiceConfig, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the speed of each crop, (count,), as often slower as faster."""
    if config.speed == 1:
        return np.ones(count)
    return np.exp(random.uniform(-1, 1, count) * np.log(config.speed))


def played(samples: NDArray[np.number], speed: float, length: int) -> NDArray[np.float32]:
    """Return `length` samples of a recording played `speed` times faster, by interpolation."""
    if speed == 1:
        return samples[:length].astype(np.float32)
    places = np.arange(length) * speed
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)


def source_frames(frames: int, speed: float, known: int) -> NDArray[np.int64]:
    """Return the frames of a recording that lie under its frames when it is played faster.

    Args:
        frames: number of frames of what is played.
        speed: factor by which it is faster.
        known: number of frames of the recording.
    """
    centres = (np.arange(frames) * HOP + WINDOW / 2) * speed
    return np.clip(np.rint((centres - WINDOW / 2) / HOP), 0, known - 1).astype(np.int64)


def recoloured(
    waveforms: NDArray[np.float32], config: VoiceConfig, random: np.random.Generator
) -> NDArray[np.float32]:
    """Change the gain over frequency of (B, L) waveforms, each its own way, and add noise."""
    count, length = waveforms.shape
    if config.gain:
        gains = random.normal(0, config.gain, (count, 1, BANDS)).astype(np.float32)
        spectrum = torch.fft.rfft(torch.from_numpy(waveforms))
        decibels = F.interpolate(
            torch.from_numpy(gains), spectrum.shape[1], mode="linear", align_corners=True
        )
        spectrum *= 10 ** (decibels.squeeze(1) / 20)
        waveforms = torch.fft.irfft(spectrum, length).numpy()
    if config.noise:
        levels = 10 ** (-random.uniform(*config.noise, (count, 1)) / 20)
        scale = waveforms.std(1, keepdims=True) * levels.astype(np.float32)
        waveforms = waveforms + scale * random.standard_normal(waveforms.shape, np.float32)
    return waveforms
