"""Mini sets: small corpora that are made here, to try everything without data of one's own.

`mini_set` is the one door: what it returns is an ordinary folder that the readers of real corpora
read. Recordings and pictures come from Debian packages, the rest from synthetic voices; every
choice is seeded, so that each machine makes the same files.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import read_yaml
from ..data.cache import cache_home, check_owner, is_prepared, made_once
from ..data.manifest import MANIFEST
from ..errors import ConfigError, CorpusError, unknown_name

logger = logging.getLogger(__name__)

SUPERB = ("fluent_commands", "snips", "libriphone", "speech_commands", "quesst14_dtw")
NAMES = ("stamps", "named_pictures", *SUPERB, "zerospeech", "abx")
DESCRIPTION = "mini_set.json"  # counts and notes of the sets that have no manifest
VERSIONS = {"named_pictures": 3, "snips": 2, "quesst14_dtw": 2}
"""Counts up whenever a file of the set changes; 1 for the others."""
PLACES = {
    name: f"superb/{name}-v{version}" if name in SUPERB else f"{name}/v{version}"
    for name, version in ((name, VERSIONS.get(name, 1)) for name in NAMES)
}
"""Folders in the cache."""


@dataclass(frozen=True)
class MiniSet:
    """A small corpus in the layout of a real one."""

    root: Path
    notes: tuple[str, ...]
    """Its sources, their licences, and the limits of what it can show."""
    config: Mapping[str, Any]
    """Settings of the task's YAML that fit its size."""


def mini_set(name: str, archive: Path | None = None, *, root: Path | None = None) -> MiniSet:
    """Return a mini set; it is made at its first use, in a minute or less on two cores.

    Args:
        name: one of `NAMES`.
        archive: a .deb file or a folder of them, for machines without apt-get.
        root: folder to make `stamps` or `named_pictures` in (default: one in the cache).

    Raises:
        ConfigError: there is no such set.
        CorpusError: a package cannot be fetched, a file of it is broken, the disk is full.
    """
    if name not in NAMES:
        raise ConfigError(unknown_name("mini set", name, NAMES))
    listing = MANIFEST if name in ("stamps", "named_pictures") else DESCRIPTION
    folder = root or cache_home() / PLACES[name]
    if not is_prepared(folder, listing):
        from .sets import fill  # late: only making needs voices and drawing

        started = time.perf_counter()
        folder = made_once(folder, lambda to: fill(name, to, archive))
        logger.info("%s: made in %.0f s, in '%s'", name, time.perf_counter() - started, folder)
    elif root is None:
        check_owner(folder)
    settings = read_yaml(Path(__file__).with_name("superb.yaml"))
    return MiniSet(folder, read_notes(folder / listing), settings.get(name, {}))


def read_notes(path: Path) -> tuple[str, ...]:
    """Read a set's notes from its description, or from its manifest's first line."""
    try:
        with open(path, encoding="utf-8") as handle:
            about = json.loads(handle.readline() if path.name == MANIFEST else handle.read())
        return tuple(map(str, about["notes"] if isinstance(about, dict) else about))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"'{path.parent}' holds no readable {path.name}, so it is no whole mini set; remove "
            "the folder, and it is made again"
        ) from error
