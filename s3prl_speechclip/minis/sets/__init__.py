"""The mini sets by name: where each lies in the cache, and what fills its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...data.cache import cache_home
from ...errors import AudioError, CorpusError
from ..making import Built
from . import (
    fluent_commands,
    libriphone,
    named_pictures,
    quesst14_dtw,
    snips,
    speech_commands,
    stamps,
    zerospeech,
)

MANIFEST = "manifest.jsonl"
DESCRIPTION = "mini_set.json"


class Recipe(NamedTuple):
    """How a mini set is made."""

    place: str
    """Folder in the cache; its number counts up whenever a file of the set changes."""
    listing: str
    """File that is written last."""
    fill: Callable[[Path, Path | None, bool], None]
    """Fill an empty folder, given the folder, `archive` and `skip_broken`."""


def _described(make: Callable[[Path, Path | None], Built]) -> Callable[..., None]:
    """Write a set's counts and notes beside it."""

    def fill(folder: Path, archive: Path | None, skip_broken: bool) -> None:
        try:
            built = make(folder, archive)
        except AudioError as error:
            raise CorpusError(
                f"the mini set cannot be made: {str(error).partition(';')[0]}; remove "
                f"'{cache_home() / 'debian'}', and its packages are fetched again"
            ) from error
        notes = list(built.notes)
        about = {"counts": dict(built.counts), "notes": notes} if built.counts else notes
        (folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    return fill


def _superb(name: str, make: Callable[[Path, Path | None], Built]) -> Recipe:
    return Recipe(f"superb/{name}-v1", DESCRIPTION, _described(make))


RECIPES: Mapping[str, Recipe] = {
    "stamps": Recipe("stamps/v1", MANIFEST, stamps.make),
    "named_pictures": Recipe("named_pictures/v1", MANIFEST, named_pictures.make),
    "zerospeech": Recipe("zerospeech/v1", DESCRIPTION, _described(zerospeech.make)),
    "fluent_commands": _superb("fluent_commands", fluent_commands.make),
    "snips": _superb("snips", snips.make),
    "libriphone": _superb("libriphone", libriphone.make),
    "speech_commands": _superb("speech_commands", speech_commands.make),
    "quesst14_dtw": _superb("quesst14_dtw", quesst14_dtw.make),
}


def read_notes(path: Path) -> tuple[str, ...]:
    """Read a set's notes from its listing.

    Raises:
        CorpusError: the listing is missing or damaged.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            about = json.loads(handle.readline() if path.name == MANIFEST else handle.read())
        return tuple(map(str, about["notes"] if isinstance(about, dict) else about))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"'{path.parent}' holds no readable {path.name}, so it is no whole mini set; remove "
            "the folder, and it is made again"
        ) from error
