"""What the mini sets' makers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

SYNTHETIC = (
    "synthetic speakers: espeak-ng's variants (GPL-3.0-or-later program) and CMU's voices in "
    "Debian's libflite1 (BSD-like)"
)


@dataclass(frozen=True)
class Built:
    """What a maker filled its folder with."""

    counts: Mapping[str, int]
    """Recordings by part."""
    notes: tuple[str, ...]


def minutes(seconds: Iterable[float]) -> str:
    """Say a duration."""
    return f"{sum(seconds) / 60:.1f} min"


def dealt(items: Iterable[str], count: int, random: Random) -> list[str]:
    """Deal `count` items, each as often as the others, in random order."""
    pool = list(items)
    dealt = [item for _ in range(-(-count // len(pool))) for item in random.sample(pool, len(pool))]
    return dealt[:count]
