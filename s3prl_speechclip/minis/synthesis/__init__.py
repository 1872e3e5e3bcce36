"""Speech synthesis in this process, with the times of words and phones; the same at every run."""

from __future__ import annotations

from pathlib import Path

from ...errors import CorpusError
from .. import debian
from . import espeak, flite
from .aloud import Phone, Reading, spoken, words_of
from .voices import Voice

__all__ = ["Phone", "Reading", "Voice", "fetch_libraries", "read_aloud", "spoken", "words_of"]

ENGINES = {"flite": flite.read, "espeak": espeak.read}


def fetch_libraries(archive: Path | None = None) -> tuple[Path, ...]:
    """Return the unpacked packages that the voices need, fetched at the first use.

    Args:
        archive: see `debian.packages`.
    """
    espeak.english_data()  # before worker processes want it all at once
    return tuple(package.root for package in debian.packages(flite.PACKAGES, archive))


def read_aloud(text: str, voice: Voice, libraries: tuple[Path, ...]) -> Reading:
    """Read an English text aloud; one text, voice and version always give the same samples.

    Args:
        text: any English; `spoken(text)` is what is read.
        voice: a synthetic speaker, see `voices`.
        libraries: result of `fetch_libraries`.

    Raises:
        CorpusError: there is no English word to read.
    """
    plain = spoken(text)
    if not words_of(plain):
        raise CorpusError(f"there is no English word to read in '{text}'")
    return ENGINES[voice.engine](plain, voice, libraries)
