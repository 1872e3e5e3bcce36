"""Who reads a picture's name aloud, and how."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import CorpusError
from ..stamps import prepare
from ..stamps.splits import HELD_OUT_VOICES
from ..synthesis import VOICES, read_aloud

READERS = 4  # of the stamps' voices that training hears


@dataclass(frozen=True)
class Work:
    """A recording to make."""

    target: Path
    text: str
    voice: str
    """A key of `VOICES`."""
    libraries: tuple[Path, ...]


def readers(name: str) -> tuple[str, ...]:
    """Choose the voices, keys of `VOICES`, that read a name; the same at every run."""
    random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    heard = [voice for voice in VOICES if voice not in HELD_OUT_VOICES]
    return tuple(heard[k] for k in random.choice(len(heard), READERS, replace=False))


def reading(work: Work) -> prepare.Made:
    """Synthesise a name, in a worker."""
    try:
        read = read_aloud(work.text, work.voice, work.libraries)
    except CorpusError as error:
        return prepare.Made(fault=str(error))
    return prepare.write_reading(work.target, read)
