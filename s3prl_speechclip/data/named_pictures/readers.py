"""Who reads a picture's name aloud, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ...errors import CorpusError
from ..stamps import prepare
from ..stamps.splits import HELD_OUT_VOICES
from ..synthesis import VOICES, Voice, read_with

ENGLISH_READERS = 4  # of the stamps' voices that training hears
LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "be": "be", "bg": "bg", "ca": "ca", "da": "da", "el": "el", "es": "es", "fr": "fr",
        "nl": "nl", "ro": "ro", "ru": "ru",
    }
)  # fmt: skip
"""espeak-ng's voice by language (ISO 639-1), of the stamps' languages with many recordings."""
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m8", "f1", "f3", "f4", "f5")
"""espeak-ng's speakers, but for those of the voices that the stamps hold out."""


@dataclass(frozen=True)
class Spoken:
    """A name as one voice says it."""

    text: str
    language: str
    speaker: str
    voice: Voice


@dataclass(frozen=True)
class Work:
    """A recording to make."""

    target: Path
    spoken: Spoken
    libraries: tuple[Path, ...]


def readers(name: str, translations: Mapping[str, str]) -> Iterator[Spoken]:
    """Choose the voices that read a name, the same at every run.

    Args:
        name: in English.
        translations: the name by language, of `LANGUAGES` or fewer.
    """
    random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    heard = [voice for voice in VOICES if voice not in HELD_OUT_VOICES]
    for place in random.choice(len(heard), ENGLISH_READERS, replace=False):
        yield Spoken(name, "en", heard[place], VOICES[heard[place]])
    for language, own in sorted(translations.items()):
        variant = VARIANTS[int(random.integers(len(VARIANTS)))]
        rate, pitch = int(random.integers(130, 196)), int(random.integers(30, 71))
        voice = Voice(
            engine="espeak", name=f"{LANGUAGES[language]}+{variant}", rate=rate, pitch=pitch
        )
        yield Spoken(own, language, f"espeak-{voice.name}", voice)


def reading(work: Work) -> prepare.Made:
    """Synthesise a name, in a worker."""
    try:
        read = read_with(work.spoken.text, work.spoken.voice, work.libraries)
    except CorpusError as error:
        return prepare.Made(fault=str(error))
    return prepare.write_reading(work.target, read)
