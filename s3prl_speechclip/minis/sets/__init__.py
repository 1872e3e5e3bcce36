"""The mini sets, one file each: what fills its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ...data.cache import cache_home
from ...errors import AudioError, CorpusError
from .. import DESCRIPTION
from ..making import Built
from . import (
    abx,
    fluent_commands,
    libriphone,
    named_pictures,
    quesst14_dtw,
    snips,
    speech_commands,
    stamps,
    zerospeech,
)

MAKERS: Mapping[str, Callable[[Path, Path | None], Built | None]] = {
    "stamps": stamps.make,
    "named_pictures": named_pictures.make,
    "fluent_commands": fluent_commands.make,
    "snips": snips.make,
    "libriphone": libriphone.make,
    "speech_commands": speech_commands.make,
    "quesst14_dtw": quesst14_dtw.make,
    "zerospeech": zerospeech.make,
    "abx": abx.make,
}


def fill(name: str, folder: Path, archive: Path | None) -> None:
    """Fill an empty folder with a mini set; its description, or its manifest, is written last."""
    try:
        built = MAKERS[name](folder, archive)
    except AudioError as error:
        raise CorpusError(
            f"the mini set cannot be made: {str(error).partition(';')[0]}; remove "
            f"'{cache_home() / 'debian'}', and its packages are fetched again"
        ) from error
    if built is not None:
        notes = list(built.notes)
        about = {"counts": dict(built.counts), "notes": notes} if built.counts else notes
        (folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
