"""Speech synthesis in this process, with the times of words and phones; the same at every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ...errors import CorpusError, unknown_name
from .. import debian
from . import espeak, flite
from .reading import Phone, Reading, spoken, words_of

__all__ = [
    "VOICES",
    "Phone",
    "Reading",
    "Voice",
    "fetch_libraries",
    "read_aloud",
    "read_with",
    "spoken",
    "words_of",
]


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A synthetic speaker."""

    engine: Literal["flite", "espeak"]
    name: str
    """The engine's own name of it."""
    stretch: float = 1.0
    """flite: duration of sounds, 1 = the voice's own."""
    rate: int = 170
    """espeak-ng: words per minute."""
    pitch: int = 50
    """espeak-ng: 0 to 99."""


VOICES: Mapping[str, Voice] = MappingProxyType(
    {
        "flite-slt": Voice(engine="flite", name="slt"),
        "flite-rms": Voice(engine="flite", name="rms"),
        "flite-awb": Voice(engine="flite", name="awb"),
        "flite-kal16": Voice(engine="flite", name="kal16"),
        "espeak-en-us": Voice(engine="espeak", name="en-us", rate=165),
        "espeak-en-us+f3": Voice(engine="espeak", name="en-us+f3", rate=175, pitch=55),
        "espeak-en-gb-x-rp+m3": Voice(engine="espeak", name="en-gb-x-rp+m3", rate=155, pitch=40),
        "espeak-en-gb-scotland+f2": Voice(engine="espeak", name="en-gb-scotland+f2", rate=165),
        "espeak-en-029+f4": Voice(engine="espeak", name="en-029+f4", rate=185, pitch=60),
        "espeak-en-us-nyc+m7": Voice(engine="espeak", name="en-us-nyc+m7", rate=150, pitch=45),
    }
)
"""Women and men, four flite speakers and six of espeak-ng's accents, slow and fast."""


def fetch_libraries(archive: Path | None = None) -> tuple[Path, ...]:
    """Give the unpacked packages that the voices need, fetching them at the first use.

    Args:
        archive: a .deb file, or a folder of them, to look in and beside first.

    Raises:
        CorpusError: a package cannot be had.
    """
    return tuple(package.root for package in debian.packages(flite.PACKAGES, archive))


def read_aloud(text: str, voice: str, libraries: tuple[Path, ...]) -> Reading:
    """Read an English text aloud; one text, voice and version always give the same samples.

    Args:
        text: any English; `spoken(text)` is what is read.
        voice: a key of `VOICES`.
        libraries: what `fetch_libraries` gives.

    Raises:
        CorpusError: no such voice, or nothing to say.
    """
    if voice not in VOICES:
        raise CorpusError(unknown_name("voice", voice, VOICES))
    return read_with(text, VOICES[voice], libraries)


def read_with(text: str, voice: Voice, libraries: tuple[Path, ...]) -> Reading:
    """Read an English text aloud with any voice; otherwise as `read_aloud`.

    Raises:
        CorpusError: the engine has no such voice, or there is nothing to say.
    """
    plain = spoken(text)
    if not words_of(plain):
        raise CorpusError(f"there is no English word to read in '{text}'")
    if voice.engine == "flite":
        return flite.load(libraries).read(plain, voice.name, voice.stretch)
    return espeak.read(plain, voice.name, voice.rate, voice.pitch)
