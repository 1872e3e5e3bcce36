"""Mini sets: small corpora that are made here, to try everything without data of one's own.

`mini_set` is the one door: what it returns is an ordinary folder that the readers of real corpora
read. Recordings and pictures come from Debian packages, the rest from synthetic voices; every
choice is seeded, so that each machine makes the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import read_yaml
from ..data.cache import cache_home, check_owner, is_prepared, made_once
from ..errors import ConfigError, unknown_name

SUPERB = ("fluent_commands", "snips", "libriphone", "speech_commands", "quesst14_dtw")
NAMES = ("stamps", "named_pictures", *SUPERB, "zerospeech")


@dataclass(frozen=True)
class MiniSet:
    """A small corpus in the layout of a real one."""

    root: Path
    notes: tuple[str, ...]
    """What it is made of, under which licences, and what it cannot show."""
    config: Mapping[str, Any]
    """Settings of the task's YAML that fit its size."""


def mini_set(
    name: str,
    archive: Path | None = None,
    *,
    root: Path | None = None,
    skip_broken: bool = False,
) -> MiniSet:
    """Return a mini set; it is made at its first use, in one or two minutes on two cores.

    Args:
        name: one of `NAMES`.
        archive: a .deb file or a folder of them, for machines without apt-get.
        root: folder to make `stamps` or `named_pictures` in (default: one in the cache).
        skip_broken: leave out files of `stamps` that cannot be read, and count them in the notes.

    Raises:
        ConfigError: there is no such set.
        CorpusError: a package cannot be fetched, a file of it is broken, the disk is full.
    """
    if name not in NAMES:
        raise ConfigError(unknown_name("mini set", name, NAMES))
    # Late: only making needs voices and drawing.
    from .sets import RECIPES, read_notes

    recipe = RECIPES[name]
    folder = root or cache_home() / recipe.place
    if not is_prepared(folder, recipe.listing):
        folder = made_once(folder, lambda to: recipe.fill(to, archive, skip_broken))
    elif root is None:
        check_owner(folder)
    settings = read_yaml(Path(__file__).with_name("superb.yaml"))
    return MiniSet(folder, read_notes(folder / recipe.listing), settings.get(name, {}))
