"""The word cards of pysiogame (eduActiv8): photographs and drawings, each named by its word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ...errors import CorpusError
from .draft import Draft

PACKAGE = "pysiogame"
CARDS = "usr/share/games/pysiogame/res/images/art4apps"
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "animals": ("animal",),
        "body": ("body",),
        "clothes_n_accessories": ("clothes",),
        "food": ("food",),
        "fruit_n_veg": ("food", "plant"),
        "jobs": ("person", "job"),
        "people": ("person", "people"),
        "sport": ("sport",),
        "transport": ("transport", "vehicle"),
    }
)
"""Tags by folder; the others (actions, construction, nature) name no kind of thing."""


def read(roots: Mapping[str, Path]) -> list[Draft]:
    """List the cards."""
    folder = roots[PACKAGE] / CARDS
    drafts = [
        Draft(
            name=path.relative_to(folder).with_suffix("").as_posix(),
            source=path,
            captions=(path.stem.replace("_", " "),),
            tags=KINDS.get(path.parent.name, ()),
        )
        for path in sorted(folder.glob("*/*.jpg"))
    ]
    if not drafts:
        raise CorpusError(f"'{PACKAGE}' has no {CARDS}; fetch the package again")
    return drafts
