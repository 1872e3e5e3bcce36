"""A reading with its times, and the preparation of a written text for a synthesiser."""

from __future__ import annotations

import ctypes
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.manifest import Word

LIBC = ctypes.CDLL(None)
TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "—": ", ", "–": ", ", "…": ".", "\u00a0": " "}
)


@dataclass(frozen=True)
class Phone:
    """A spoken sound with its times in seconds."""

    symbol: str
    """In the synthesiser's own alphabet: ARPAbet of flite, IPA of espeak-ng."""
    start: float
    end: float


@dataclass(frozen=True)
class Reading:
    """A text read aloud."""

    samples: NDArray[np.int16]
    """(L,), mono."""
    sample_rate: int
    """Hz."""
    words: tuple[Word, ...]
    """The words of `spoken(text)` in order; words that the voice ran together are one entry,
    with a space between them."""
    phones: tuple[Phone, ...]


def spoken(text: str) -> str:
    """Write a caption in ASCII: flite drops other letters, and with them half of a word."""
    text = unicodedata.normalize("NFKD", text.translate(TYPOGRAPHY))
    text = text.encode("ascii", "ignore").decode()
    text = re.sub(r"\s+([,.])", r"\1", re.sub(r"^[\s,]+", "", text))
    return " ".join(text.split())


def words_of(text: str) -> list[tuple[int, str]]:
    """Split a spoken text into its words, as (offset in characters, word without punctuation)."""
    found = []
    for match in re.finditer(r"\S+", text):
        core = re.search(r"[A-Za-z0-9](?:.*[A-Za-z0-9])?", match[0])
        if core:
            found.append((match.start() + core.start(), core[0]))
    return found


def same_noise() -> None:
    """Restart C's random numbers, of which both synthesisers make breath noise."""
    LIBC.srand(1)
