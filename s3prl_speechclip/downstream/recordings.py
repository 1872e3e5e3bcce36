"""Recordings for s3prl's data sets: averaged to mono and resampled to 16 kHz, whatever the file.

Most of s3prl's data sets take a file's samples as they are, at whatever rate, and channels one
after the other. `read_as_mono` replaces the reader in the modules of a task. Where features are
stored, the reader returns stand-ins (`Naming`): a data set's own code then orders, crops and labels
recordings that nobody reads.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio

from ..data.audio import audio_info, read_audio
from ..data.feature_store import KnownRecordings, Recording, recording_key
from ..structures import SAMPLE_RATE

Effects = tuple[tuple[str, ...], ...]
"""SoX effects on a file; empty: none."""
Source = Callable[[], np.ndarray]
"""Reads a recording, (L,) float32."""

_converted: set[str] = set()
_naming: Naming | None = None


class Naming:
    """Recordings by number; where they are read in `naming`, stand-ins come instead of samples.

    A stand-in is one value, the number, repeated over the recording's length without memory, so
    that what slices it or computes with it is told from what passes it on.
    """

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        """By number."""
        self.sources: list[Source] = []
        """Readers of the recordings, by number."""
        self._numbers: dict[tuple[str, Effects], int] = {}
        self._known: dict[Effects, KnownRecordings] = {}

    def add(self, recording: Recording, source: Source) -> np.ndarray:
        """Number a recording; returns its stand-in."""
        self.recordings.append(recording)
        self.sources.append(source)
        return _stand_in(len(self.recordings) - 1, recording.samples).numpy()

    def add_part(
        self, wav: np.ndarray, number: int | None, maker: str, source: Source
    ) -> np.ndarray:
        """Number what a data set made of a recording; returns its stand-in.

        Args:
            wav: a slice of a stand-in, or samples.
            number: the stand-in's; None for samples.
            maker: what it follows from: the data set's code, and the seed.
            source: reader of the part.
        """
        if number is None:
            samples = np.asarray(wav, dtype=np.float32).reshape(-1)
            return self.add(Recording(recording_key(samples), len(samples)), source)
        whole = self.recordings[number]
        text = f"{whole.key} {whole.samples} {len(wav)} {maker}"
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self.add(Recording(key, len(wav), whole.converted), source)

    def number(self, wav: np.ndarray) -> int | None:
        """Return the number of a stand-in, whole or sliced; None: these are samples."""
        return int(wav[0]) if wav.ndim == 1 and len(wav) > 1 and wav.strides == (0,) else None

    def is_whole(self, wav: np.ndarray, number: int) -> bool:
        """Return whether a stand-in has the length of its recording."""
        return len(wav) == self.recordings[number].samples

    def of_file(self, path: str, effects: Effects, read: Source) -> torch.Tensor:
        """Return the stand-in of a file, which is read where its digest is not known."""
        number = self._numbers.get((path, effects))
        if number is None:
            known = self._known_with(effects)
            found = known.find(path)
            if found is None:
                found = known.add(path, read(), _is_converted(path))
            if found.converted:
                _converted.add(path)
            number = self._numbers[path, effects] = len(self.recordings)
            self.recordings.append(found)
            self.sources.append(read)
        return _stand_in(number, self.recordings[number].samples)

    def take(self) -> dict[Effects, dict[str, Recording]]:
        """Return the digests computed since the last call, for `merge` in another process."""
        return {effects: known.take() for effects, known in self._known.items()}

    def merge(self, noted: Mapping[Effects, Mapping[str, Recording]]) -> None:
        """Add the digests that another process computed."""
        for effects, new in noted.items():
            self._known_with(effects).merge(new)

    def save(self) -> None:
        """Keep the digests for later runs."""
        for known in self._known.values():
            known.save()

    def refresh(self) -> None:
        """Find the digests that other processes saved."""
        for known in self._known.values():
            known.refresh()

    def _known_with(self, effects: Effects) -> KnownRecordings:
        if effects not in self._known:
            self._known[effects] = KnownRecordings(f"16 kHz mono {effects or ''}".strip())
        return self._known[effects]


@contextmanager
def naming(names: Naming | None) -> Iterator[None]:
    """Have stand-ins read in a block; None: samples."""
    global _naming
    before, _naming = _naming, names
    try:
        yield
    finally:
        _naming = before


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

    def apply_effects_file(
        path: str | Path, chain: list[list[str]], *args: Any, **options: Any
    ) -> tuple[torch.Tensor, int]:
        named = tuple(tuple(effect) for effect in chain)
        if _naming is None or not {("channels", "1"), ("rate", str(SAMPLE_RATE))} <= set(named):
            _note(path)
            return effects(path, chain, *args, **options)
        wave = _naming.of_file(str(path), named, partial(_read_with, effects, path, chain))
        return wave[None], SAMPLE_RATE

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
    wave = _read_file(uri)[frame_offset : None if num_frames < 0 else frame_offset + num_frames]
    return wave[None] if channels_first else wave[:, None], SAMPLE_RATE


def _read(
    file: Any, start: int = 0, stop: int | None = None, **options: Any
) -> tuple[np.ndarray, int]:
    """Read as soundfile.read does: (L,), from and to samples at 16 kHz."""
    if not isinstance(file, (str, Path)):  # standard input, or a command's output
        samples, rate = soundfile.read(file, start=start, stop=stop, **options)
        return samples, rate
    return _read_file(file).numpy()[start:stop], SAMPLE_RATE


def _read_file(path: str | Path) -> torch.Tensor:
    if _naming is not None:
        return _naming.of_file(str(path), (), partial(read_audio, path))
    _note(path)
    return torch.from_numpy(read_audio(path))


def _read_with(effects: Callable[..., Any], path: str | Path, chain: Any) -> np.ndarray:
    samples: np.ndarray = effects(path, chain)[0].numpy().reshape(-1)
    return samples


def _stand_in(number: int, samples: int) -> torch.Tensor:
    return torch.full((1,), number, dtype=torch.float32).expand(samples)


def _note(path: str | Path) -> None:
    if _is_converted(path):
        _converted.add(str(path))


def _is_converted(path: str | Path) -> bool:
    info = audio_info(path)
    return info.sample_rate != SAMPLE_RATE or info.channels != 1


class _Stand(types.ModuleType):
    """A module with some names of its own."""

    def __init__(self, original: types.ModuleType, **own: Any) -> None:
        super().__init__(original.__name__)
        self._original = original
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
