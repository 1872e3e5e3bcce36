"""Recordings for s3prl's data sets: averaged to mono and resampled to 16 kHz, whatever the file.

Most of s3prl's data sets take a file's samples as they are, at whatever rate, and channels one
after the other. `read_as_mono` replaces the reader in the modules of a task.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio

from ..data.audio import audio_info, read_audio
from ..structures import SAMPLE_RATE

_converted: set[str] = set()


def take_converted() -> set[str]:
    """Return the recordings that this process converted since the last call."""
    taken = set(_converted)
    _converted.clear()
    return taken


def add_converted(paths: set[str]) -> None:
    """Count recordings that another process converted."""
    _converted.update(paths)


def read_as_mono(package: str) -> None:
    """Replace the readers in the imported modules of a package of s3prl's.

    Args:
        package: such as `s3prl.downstream.emotion`.
    """
    effects = torchaudio.sox_effects.apply_effects_file

    def apply_effects_file(path: str | Path, *args: Any, **options: Any) -> Any:
        _note(path)
        return effects(path, *args, **options)

    readers = {  # by the name in s3prl's modules
        "torchaudio": (torchaudio, _Stand(torchaudio, load=_load)),
        "sf": (soundfile, _Stand(soundfile, read=_read)),
        "apply_effects_file": (effects, apply_effects_file),
    }
    for module in [m for name, m in sys.modules.items() if name.startswith(f"{package}.")]:
        for attribute, (original, own) in readers.items():
            if vars(module).get(attribute) is original:
                setattr(module, attribute, own)


def _load(
    uri: str | Path,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
) -> tuple[torch.Tensor, int]:
    """Read as torchaudio.load does: (1, L); offset and length are samples at 16 kHz."""
    _note(uri)
    stop = None if num_frames < 0 else frame_offset + num_frames
    wave = torch.from_numpy(read_audio(uri)[frame_offset:stop])
    return wave[None] if channels_first else wave[:, None], SAMPLE_RATE


def _read(
    file: Any, start: int = 0, stop: int | None = None, **options: Any
) -> tuple[np.ndarray, int]:
    """Read as soundfile.read does: (L,), from and to samples at 16 kHz."""
    if not isinstance(file, (str, Path)):  # standard input, or a command's output
        samples, rate = soundfile.read(file, start=start, stop=stop, **options)
        return samples, rate
    _note(file)
    return read_audio(file)[start:stop], SAMPLE_RATE


def _note(path: str | Path) -> None:
    info = audio_info(path)
    if info.sample_rate != SAMPLE_RATE or info.channels != 1:
        _converted.add(str(path))


class _Stand(types.ModuleType):
    """A module with some names of its own."""

    def __init__(self, original: types.ModuleType, **own: Any) -> None:
        super().__init__(original.__name__)
        self._original = original
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
