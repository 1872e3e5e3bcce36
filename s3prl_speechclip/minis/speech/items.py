"""What a recording is made of, before it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..synthesis import Voice

DEV_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Item:
    """A recording to be: a file to decode or a text to read aloud."""

    recording_id: str
    source: str
    speaker: str
    language: str
    split: str
    path: Path | None = None
    voice: Voice | None = None
    text: str = ""
    phrase: str = ""
    synthetic: bool = False


def split_of(recording_id: str) -> str:
    """Put one recording of a hundred in `dev`, the others in `train`."""
    place = int(hashlib.sha256(f"speech/{recording_id}".encode()).hexdigest()[:13], 16) / 16**13
    return "dev" if place < DEV_SHARE else "train"
