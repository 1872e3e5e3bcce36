"""Pictures with words: emoji, word cards and clip art, all from Debian packages.

The packages are fetched at the first use and their pictures are prepared once in the cache, as
pixels on white. What is left out is counted in the set's notes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from ...data.cache import cache_home, is_prepared, made_once
from ...errors import CorpusError
from .. import debian
from ..stamps import prepare
from ..stamps.progress import Bars
from . import clipart, emoji, word_cards
from .draft import Draft, drawn

logger = logging.getLogger(__name__)

PREPARED = 1  # counts up whenever the prepared files change
LISTING = "pictures.json"

Reader = Callable[[Mapping[str, Path]], list[Draft]]
"""Lists the pictures of a source, given the root folder of each of its packages."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from."""

    packages: tuple[str, ...]
    """Debian packages that it is read from."""
    licence: str
    read: Reader


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "emoji": Source(
            (emoji.FONT_PACKAGE, emoji.NAMES_PACKAGE),
            "drawings SIL Open Font License 1.1, names Unicode-DFS-2016",
            emoji.read,
        ),
        "word_cards": Source((word_cards.PACKAGE,), "public domain", word_cards.read),
        "clipart": Source((clipart.PACKAGE,), "public domain", clipart.read),
    }
)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture and the words that go with it."""

    source: str
    """A key of `SOURCES`."""
    name: str
    """What the source calls it; one picture of a source."""
    image: str
    """Path relative to the set's root."""
    captions: tuple[str, ...]
    """What it shows, each whole by itself."""
    tags: tuple[str, ...] = ()
    """Words that have to do with it."""


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Prepared pictures in a fixed order."""

    root: Path
    pictures: tuple[Picture, ...]
    packages: Mapping[str, str]
    """Versions of the packages by name."""
    notes: tuple[str, ...]
    """How many pictures each source gives, and what was left out."""


def read(
    root: Path | None = None,
    archive: Path | None = None,
    progress: prepare.Progress | None = None,
) -> PictureSet:
    """Give the pictures; fetch and prepare them at the first use, some minutes on two cores.

    Args:
        root: the folder of the prepared pictures, by default one in the cache.
        archive: a package as a .deb file, or a folder of .deb files, for machines without apt-get.
        progress: told what is being done; by default a bar on standard error.

    Raises:
        CorpusError: a package cannot be had or is not as expected, the disk is full.
    """
    root = root or cache_home() / "pictures" / f"v{PREPARED}"
    if not is_prepared(root, LISTING):
        made_once(root, lambda folder: _prepare(folder, archive, progress or Bars()))
    return _load(root)


def _prepare(folder: Path, archive: Path | None, progress: prepare.Progress) -> None:
    names = sorted({name for source in SOURCES.values() for name in source.packages})
    packages = {p.name: p for p in debian.packages(names, archive)}
    roots = {name: package.root for name, package in packages.items()}
    drafts = {name: source.read(roots) for name, source in SOURCES.items()}
    pictures: list[Picture] = []
    notes = []
    for source, found in drafts.items():
        works = [
            prepare.Work(folder / _image(source, draft), draft.source, draft.text)
            for draft in found
        ]
        made = prepare.run(drawn, works, f"preparing pictures of {source}", progress)
        kept = [
            Picture(
                source=source,
                name=draft.name,
                image=_image(source, draft),
                captions=draft.captions,
                tags=draft.tags,
            )
            for draft, result in zip(found, made, strict=True)
            if not result.fault and not result.blank
        ]
        if not kept:
            raise CorpusError(
                f"no picture of '{' and '.join(SOURCES[source].packages)}' can be drawn, the "
                f"first: {made[0].fault if made else 'there is none'}; fetch the packages again"
            )
        faults = [result.fault for result in made if result.fault]
        blank = sum(result.blank for result in made)
        versions = ", ".join(f"{p} {packages[p].version}" for p in SOURCES[source].packages)
        notes.append(
            f"{source} ({versions}): {len(kept)} pictures; left out {len(faults)} that cannot be "
            f"drawn and {blank} that are blank"
        )
        for fault in faults:
            logger.info("left out: %s", fault)
        pictures += kept
    about = {
        "packages": {name: package.version for name, package in packages.items()},
        "notes": notes,
        "pictures": [asdict(picture) for picture in pictures],
    }
    (folder / LISTING).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def _load(root: Path) -> PictureSet:
    path = root / LISTING
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        pictures = tuple(
            Picture(**{**row, "captions": tuple(row["captions"]), "tags": tuple(row["tags"])})
            for row in about["pictures"]
        )
        return PictureSet(
            root=root,
            pictures=pictures,
            packages=about["packages"],
            notes=tuple(about["notes"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(
            f"'{path}' is no list of pictures ({error}); delete its folder"
        ) from error


def _image(source: str, draft: Draft) -> str:
    return f"{source}/{draft.name}.png"
