"""Change a crop's voice and room, so that a unit is learned as a sound whoever says it.

Playing a recording faster or slower moves pitch and formants as another body does (vocal tract
length perturbation, Jaitly and Hinton, 2013; speed perturbation, Ko et al., 2015); a smooth gain
over frequency and noise stand for other microphones and rooms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ...structures import HOP
from .units import WINDOW

BANDS = 7  # points that the gain over frequency goes through


@dataclass(frozen=True, kw_only=True)
class VoiceConfig:
    """How far voices are changed; the defaults leave them as they are."""

    speed: float = 1.0
    """Recordings are played at most so many times faster, or slower."""
    gain: float = 0.0
    """Standard deviation in dB of the gain over frequency."""
    noise: tuple[float, float] | None = None
    """Least and greatest level of white noise in dB under the speech."""


AS_THEY_ARE = VoiceConfig()


def draw_speeds(
    count: int, config: VoiceConfig, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw how much faster each crop is played, (count,), as often slower as faster."""
    if config.speed == 1:
        return np.ones(count)
    return np.exp(random.uniform(-1, 1, count) * np.log(config.speed))


def played(samples: NDArray[np.number], speed: float, length: int) -> NDArray[np.float32]:
    """Give `length` samples of a recording played `speed` times faster, linearly interpolated."""
    if speed == 1:
        return samples[:length].astype(np.float32)
    places = np.arange(length) * speed
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)


def frames_heard(frames: int, speed: float, known: int) -> NDArray[np.int64]:
    """Say which frames of the recording are heard in the frames of it played faster.

    Args:
        frames: of what is played.
        speed: how much faster.
        known: frames of the recording.

    Returns:
        (frames,) indices of the frames whose centres are nearest.
    """
    centres = (np.arange(frames) * HOP + WINDOW / 2) * speed
    return np.clip(np.rint((centres - WINDOW / 2) / HOP), 0, known - 1).astype(np.int64)


def recoloured(
    waveforms: NDArray[np.float32], config: VoiceConfig, random: np.random.Generator
) -> NDArray[np.float32]:
    """Give (B, L) waveforms another gain over frequency each, and noise."""
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
