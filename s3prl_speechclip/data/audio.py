"""Recordings: read any file that libsndfile knows as 16 kHz mono.

Treatment of unusual recordings:

- several channels: averaged;
- another sample rate: resampled (soxr, high quality), so 8 kHz and 44.1 kHz files are ordinary;
- shorter than one encoder frame (`WINDOW`): valid, padded with zeros when batches are made;
- 10 minutes: valid, whole in evaluation; training crops it when batches are made;
- silent: valid, since only a listener can tell a fault from a pause;
- beyond [-1, 1] (floating-point files): kept as it is;
- cut off, a frame or more shorter than its header promises: `AudioError`; a header of a stream,
  written before the length was known, promises nothing, nor does an MP3 without a length;
- missing, unreadable, without samples, or with NaN or infinity: `AudioError`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from ..errors import AudioError
from ..structures import SAMPLE_RATE, WINDOW

DATA_SIZE = re.compile(r"^\s*(data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)$", re.MULTILINE)
"""libsndfile's note on a header that promises more bytes of samples than there are."""
STREAM_SIZE = 0x7FFF0000  # bytes; this much or more stands in headers written before the samples
# libsndfile's errors are RuntimeErrors; soundfile adds the next two for what looks like raw samples
# and for odd headers; a header that promises too much runs out of memory.
UNREADABLE = (RuntimeError, TypeError, ValueError, OSError, MemoryError)
REMEDY = "replace the file, or leave it out with --skip-broken"


class AudioInfo(NamedTuple):
    """Length and form of a recording, from its header."""

    samples: int
    """Per channel, at the file's own rate."""
    sample_rate: int  # Hz
    channels: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.sample_rate


def read_audio(path: str | Path) -> np.ndarray:
    """Read a whole recording of any format that libsndfile reads as one channel at 16 kHz.

    Returns:
        (L,) float32, at least one sample, in [-1, 1] but for floating-point files beyond it.

    Raises:
        AudioError: the file is missing, cannot be decoded, is cut off, holds no samples, or holds
            NaN or infinity.
    """
    return mono(*read_channels(path))


def mono(channels: np.ndarray, rate: int) -> np.ndarray:
    """Average channels and resample to 16 kHz.

    Args:
        channels: (L, C) float samples, at least one.
        rate: their sample rate, Hz.

    Returns:
        (L,) float32, at least one sample.
    """
    # A sum of large samples in single precision would be infinite.
    waveform = channels.mean(axis=1, dtype=np.float64).astype(np.float32)
    if rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
        if not len(waveform):  # one sample at 44.1 kHz is none at 16 kHz
            waveform = np.zeros(1)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def read_channels(path: str | Path, start: int = 0, samples: int = -1) -> tuple[np.ndarray, int]:
    """Read a recording as its file has it.

    Args:
        path: a file of any format that libsndfile reads.
        start: number of samples to skip.
        samples: largest number of samples to read; -1: all.

    Returns:
        (L, C) float32 and the sample rate, Hz.

    Raises:
        AudioError: see `read_audio`.
    """
    with _opened(path) as file:
        start = file.seek(min(start, file.frames))
        channels = file.read(samples, dtype="float32", always_2d=True)
        rate = file.samplerate
        expected = file.frames - start if samples < 0 else min(samples, file.frames - start)
        if len(channels) < expected and _knows_length(path, file):
            _require_samples(path, file, file.frames, start + len(channels))
    if not len(channels):
        raise AudioError(f"recording '{path}' holds no samples; {REMEDY}")
    finite = np.isfinite(channels)
    if not finite.all():
        raise AudioError(
            f"recording '{path}' holds {int((~finite).sum())} samples that are NaN or infinite; "
            f"{REMEDY}"
        )
    return channels, rate


def audio_info(path: str | Path) -> AudioInfo:
    """Read a recording's header only; the same files are refused but for their samples."""
    with _opened(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(path) as file:
            _require_whole(path, file)
            yield file
    except UNREADABLE as error:  # libsndfile's own words for most of these are "System error"
        reason = getattr(error, "error_string", None) or str(error)
        fault = f"cannot be decoded ({' '.join(str(reason).split()).rstrip('.')})"
        if not Path(path).is_file():
            fault = "is a folder" if Path(path).is_dir() else "does not exist"
        elif Path(path).stat().st_size == 0:
            fault = "is an empty file"
        elif not os.access(path, os.R_OK):
            fault = "may not be read: permission denied"
        raise AudioError(f"recording '{path}' {fault}; {REMEDY}") from error


def _require_whole(path: str | Path, file: soundfile.SoundFile) -> None:
    sizes = DATA_SIZE.search(file.extra_info)
    if sizes is None:
        return
    head = 8 if sizes[1] == "SSND" else 0  # bytes before AIFF's samples
    promised, found = int(sizes[2]) - head, int(sizes[3]) - head
    if promised >= STREAM_SIZE or found <= 0:
        return
    _require_samples(path, file, round(file.frames * promised / found), file.frames)


def _require_samples(
    path: str | Path, file: soundfile.SoundFile, promised: int, found: int
) -> None:
    if promised - found >= WINDOW * file.samplerate / SAMPLE_RATE:
        raise AudioError(
            f"recording '{path}' is cut off: its header promises {promised} samples, the file "
            f"holds {found}; {REMEDY}"
        )


def _knows_length(path: str | Path, file: soundfile.SoundFile) -> bool:
    """Return whether a length is more than libsndfile's estimate from an MP3's bit rate."""
    if file.format != "MP3":
        return True
    with open(path, "rb") as content:
        return re.search(b"Xing|Info", content.read(2**20)) is not None
