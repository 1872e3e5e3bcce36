"""Mini sets: five small corpora in the layouts of SUPERB's own, made at their first use.

They stand in where the real corpora are not at hand, so that every task trains and scores in
minutes; a score on one says nothing about the real corpus. Recordings of people come from Debian
packages, the rest from synthetic speakers; every choice is seeded, so that each machine makes the
same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ...data.cache import cache_home, made_once
from ...errors import AudioError, ConfigError, CorpusError, unknown_name
from ..stamps.prepare import Progress
from ..stamps.progress import Bars
from . import fluent_commands, libriphone, quesst14_dtw, snips, speech_commands
from .building import Built

DESCRIPTION = "mini_set.json"
VERSION = 1  # counts up whenever a file of a set changes

MAKERS: Mapping[str, Callable[[Path, Path | None, Progress], Built]] = MappingProxyType(
    {
        "fluent_commands": fluent_commands.make,
        "libriphone": libriphone.make,
        "quesst14_dtw": quesst14_dtw.make,
        "snips": snips.make,
        "speech_commands": speech_commands.make,
    }
)
"""What fills an empty folder with a task's mini set."""


@dataclass(frozen=True)
class MiniSet:
    """A small corpus in the layout of a real one."""

    root: Path
    """The folder that s3prl's configuration of the task names; see each module."""
    counts: Mapping[str, int]
    """Recordings by part."""
    notes: tuple[str, ...]
    """What it is made of, under which licences, and what it cannot show."""


def mini_set(task: str, archive: Path | None = None, progress: Progress | None = None) -> MiniSet:
    """Give a task's mini set; make it at the first use, in about a minute on two cores.

    Args:
        task: a key of `MAKERS`.
        archive: a .deb file or a folder of them, for machines without apt-get.
        progress: told what is being done; by default a bar on standard error.

    Raises:
        ConfigError: no such task.
        CorpusError: a package cannot be had, a file of it is broken, the disk is full.
    """
    if task not in MAKERS:
        raise ConfigError(unknown_name("mini set", task, MAKERS))
    show = progress or Bars()

    def make(folder: Path) -> None:
        try:
            built = MAKERS[task](folder, archive, show)
        except AudioError as error:
            raise CorpusError(
                f"the mini set '{task}' cannot be made: {str(error).partition(';')[0]}; remove "
                f"'{cache_home() / 'debian'}', and its packages are fetched again"
            ) from error
        text = json.dumps({"counts": dict(built.counts), "notes": built.notes}, indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")

    return _described(made_once(cache_home() / "superb" / f"{task}-v{VERSION}", make))


def _described(root: Path) -> MiniSet:
    try:
        fields = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
        return MiniSet(root, MappingProxyType(fields["counts"]), tuple(fields["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"'{root}' holds no readable {DESCRIPTION}, so it is no whole mini set; remove the "
            "folder, and it is made again"
        ) from error
