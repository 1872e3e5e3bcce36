"""The mini sets, one file each, whose `make` fills the set's folder."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from ...data.cache import cache_home
from ...errors import AudioError, CorpusError
from .. import DESCRIPTION
from ..making import Built


def fill(name: str, folder: Path, archive: Path | None) -> None:
    """Fill an empty folder with a mini set; its description, or its manifest, is written last."""
    try:
        built: Built | None = import_module(f"{__name__}.{name}").make(folder, archive)
    except AudioError as error:
        raise CorpusError(
            f"the mini set cannot be made: {str(error).partition(';')[0]}; remove "
            f"'{cache_home() / 'debian'}', and its packages are fetched again"
        ) from error
    if built is not None:
        notes = list(built.notes)
        about = {"counts": dict(built.counts), "notes": notes} if built.counts else notes
        (folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
