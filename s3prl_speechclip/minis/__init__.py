"""Mini sets: small corpora that are made here, to try everything without data of one's own.

`mini_set` is the one door: what it returns is an ordinary folder that the readers of real corpora
read. Recordings and pictures come from Debian packages, the rest from synthetic voices; every
choice is seeded, so that each machine makes the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..config import read_yaml
from ..errors import ConfigError, unknown_name

SUPERB = ("fluent_commands", "snips", "libriphone", "speech_commands", "quesst14_dtw")
NAMES = ("stamps", "named_pictures", *SUPERB, "zerospeech")


@dataclass(frozen=True)
class MiniSet:
    """A small corpus in the layout of a real one."""

    root: Path
    notes: tuple[str, ...]
    """What it is made of, under which licences, and what it cannot show."""
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
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
    if name in SUPERB:
        from . import superb

        made = superb.mini_set(name, archive)
        return MiniSet(made.root, made.notes, superb_config(name))
    if name == "zerospeech":
        from . import zerospeech

        found = zerospeech.mini_set(archive)
        return MiniSet(found.root, found.notes)
    from . import named_pictures, stamps

    read = stamps.read if name == "stamps" else named_pictures.read
    manifest = read(root, archive, skip_broken)
    return MiniSet(manifest.root, manifest.notes)


def superb_config(task: str) -> Mapping[str, Any]:
    """Return the settings of a SUPERB task that fit its mini set."""
    path = Path(str(resources.files(__package__) / "superb.yaml"))
    return read_yaml(path)[task]
