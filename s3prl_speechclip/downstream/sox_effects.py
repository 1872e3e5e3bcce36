"""The sound effects that s3prl's data sets ask of `torchaudio.sox_effects`, on NumPy and soxr.

As in SoX, effects follow one another, each a name and its arguments as text, and what leaves
[-1, 1] is clipped. Resampling is soxr's, which is SoX's own. Noise through SoX 14.4.2 differs by
1e-7, and by 1e-4 where it was resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from ..data.audio import read_channels
from ..errors import ConfigError, unknown_name

Effects = Sequence[Sequence[str]]
Sound = tuple[np.ndarray, int]
"""(C, L) float32 and its rate, Hz."""


def apply_effects_file(
    path: str | Path,
    effects: Effects,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
) -> tuple[Tensor, int]:
    """Read a recording and apply effects to it.

    Args:
        path: any file that libsndfile reads.
        effects: names and arguments, in order.
        normalize, format: ignored; samples are always read as numbers in [-1, 1].
        channels_first: False gives (L, C).

    Returns:
        (C, L) float32 and its sample rate, Hz.

    Raises:
        AudioError: the file cannot be used.
        ConfigError: an effect that is not here, or arguments that it does not take.
    """
    samples, rate = read_channels(path)
    return _apply(samples.T, rate, effects, channels_first)


def apply_effects_tensor(
    tensor: Tensor, sample_rate: int, effects: Effects, channels_first: bool = True
) -> tuple[Tensor, int]:
    """Apply effects to a waveform, (C, L) or, with `channels_first=False`, (L, C); as above."""
    samples = tensor.detach().cpu().float().numpy()
    return _apply(samples if channels_first else samples.T, sample_rate, effects, channels_first)


def _apply(
    samples: np.ndarray, rate: int, effects: Effects, channels_first: bool
) -> tuple[Tensor, int]:
    sound = np.clip(samples, -1.0, 1.0), rate
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise ConfigError(unknown_name("sound effect", name, EFFECTS))
        try:
            samples, rate = EFFECTS[name](sound, arguments)
        except ValueError as error:
            raise ConfigError(
                f"the sound effect '{name}' cannot take '{' '.join(arguments)}': {error}"
            ) from error
        sound = np.clip(samples, -1.0, 1.0), rate
    samples, rate = sound
    result = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    return result if channels_first else result.T, rate


def _channels(sound: Sound, arguments: Sequence[str]) -> Sound:
    """Average channels, or repeat them, to have so many."""
    (number,) = (int(argument) for argument in arguments)
    if number < 1:
        raise ValueError("a number of channels is at least 1")
    samples, rate = sound
    there = len(samples)
    # SoX deals channels out in turn: of four, one of two is the mean of the first and the third.
    mixed = [samples[i::number].mean(0) if i < there else samples[i % there] for i in range(number)]
    return np.stack(mixed), rate


def _rate(sound: Sound, arguments: Sequence[str]) -> Sound:
    """Resample, Hz."""
    (wanted,) = (int(argument) for argument in arguments)
    if wanted < 1:
        raise ValueError("a sample rate is at least 1 Hz")
    samples, rate = sound
    if wanted == rate:
        return sound
    resampled = soxr.resample(samples.T, rate, wanted).T
    # A few samples at a high rate are none at a low one.
    return (resampled if resampled.shape[1] else np.zeros((len(samples), 1))), wanted


def _gain(sound: Sound, arguments: Sequence[str]) -> Sound:
    """Amplify by dB."""
    (decibels,) = (float(argument) for argument in arguments)
    samples, rate = sound
    return samples * 10 ** (decibels / 20), rate


def _norm(sound: Sound, arguments: Sequence[str]) -> Sound:
    """Amplify all channels alike to a peak of 0 dB, or of the level given; silence stays."""
    (decibels,) = (float(argument) for argument in arguments) if arguments else (0.0,)
    samples, rate = sound
    peak = np.abs(samples).max(initial=0.0)
    return (samples * (10 ** (decibels / 20) / peak) if peak else samples), rate


def _silence(sound: Sound, arguments: Sequence[str]) -> Sound:
    """Drop each silence: a level over 20 ms of at most a share of full scale, for a duration.

    Only what SUPERB's speaker verification asks for, `1 SECONDS SHARE% -1 SECONDS SHARE%`. Sound is
    copied from where it is loud for the duration, up to a silence as long; then levels start anew.
    """
    periods, seconds, share, *again = arguments
    if periods != "1" or again != ["-1", seconds, share] or not share.endswith("%"):
        raise ValueError("it takes '1 SECONDS SHARE% -1 SECONDS SHARE%'")
    samples, rate = sound
    if len(samples) != 1:
        raise ValueError("it takes one channel")
    duration, window = round(float(seconds) * rate), rate // 50
    threshold = window * (float(share.rstrip("%")) / 100) ** 2
    energy = np.concatenate([[0.0], np.cumsum(samples[0].astype(np.float64) ** 2)])
    ends = np.arange(1, len(energy))

    def find_run(loud: bool, first: int, since: int) -> int:
        """Find, from `first`, so many loud or quiet samples; levels count those from `since`."""
        level = energy[ends[first:]] - energy[np.maximum(ends[first:] - window, since)]
        others = np.concatenate([[-1], np.flatnonzero((level > threshold) != loud), [len(level)]])
        found = np.flatnonzero(np.diff(others) > duration)
        return first + int(others[found[0]]) + 1 if len(found) else len(ends)

    parts, place = [samples[:, :0]], 0
    while place < len(ends):
        start = find_run(True, place, place)
        stop = find_run(False, min(start + duration, len(ends)), place)
        parts.append(samples[:, start:stop])
        place = stop + duration
    return np.concatenate(parts, axis=1), rate


EFFECTS: Mapping[str, Callable[[Sound, Sequence[str]], Sound]] = {
    "channels": _channels,
    "rate": _rate,
    "gain": _gain,
    "norm": _norm,
    "silence": _silence,
}
