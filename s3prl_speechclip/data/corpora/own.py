"""A folder of one's own: a manifest, and the recordings and images that it names.

The manifest is `manifest.jsonl` (one object a line), `manifest.csv` or `manifest.tsv` (with a
header row). Its fields are those of `Utterance`; `audio` and `image` must be there, the others may
be absent, empty or null:

- audio, image: paths relative to the folder, or absolute; two ways to write one path are one;
- split: train, dev or val, test, also with a suffix such as test_seen; where no row has one, a
  tenth of the images is dev and a tenth test, by the SHA-256 of their paths as written;
- text, caption, language, speaker, duration: see `Utterance`;
- words: word times, a list of [text, start, end] in seconds (in a table, that list as JSON);
- utterance_id: default, the recording's path without its suffix;
- pair_id: a number that images of one answer share; default, one a path of an image.

A manifest that `Manifest.save` wrote is read as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..files import read_table, read_text
from ..manifest import FIELD_TYPES, MANIFEST, Manifest, Utterance, parse_utterance
from .corpus import Corpus

LISTINGS = (MANIFEST, "manifest.csv", "manifest.tsv")
SPLIT = re.compile(r"(train|dev|valid|validation|val|test)((?:[_-].+)?)")
DRAWN = ("test", "dev")  # splits of the first tenths of the drawn images; the rest is train


class Rows(NamedTuple):
    """The rows of a manifest by line number."""

    listing: Path
    utterances: dict[int, Utterance]
    faults: dict[int, str]
    """Reasons of the rows that cannot be used."""
    notes: tuple[str, ...] = ()
    saved: Manifest | None = None
    """The manifest itself if `Manifest.save` wrote it."""


def read_manifest(root: Path, skip_broken: bool = False) -> Manifest:
    """Read a folder's `manifest.jsonl` as `Manifest.save` wrote it."""
    return Manifest.load(root / MANIFEST)


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read a folder with a manifest; `skip_broken` also leaves out rows that cannot be used."""
    rows = read_rows(root)
    if rows.saved:
        kept, left_out = CORPUS.keep_sound(root, rows.saved.utterances, skip_broken)
        return replace(rows.saved, utterances=kept, notes=(*rows.notes, *left_out))
    notes = rows.notes
    if rows.faults:
        line, reason = next(iter(rows.faults.items()))
        found = (
            f"{len(rows.faults)} rows of '{rows.listing}' cannot be used "
            f"(first line {line}: {reason})"
        )
        if not skip_broken:
            raise CORPUS.error(f"{found}; correct them, or leave them out with --skip-broken")
        notes = (f"left out: {found}", *notes)
    splits = sorted({utterance.split for utterance in rows.utterances.values()})
    manifest = CORPUS.manifest(
        root,
        list(rows.utterances.values()),
        skip_broken,
        train="train" in splits,
        dev_splits=tuple(split for split in splits if split.startswith("dev")),
        test_splits=tuple(split for split in splits if split.startswith("test")),
        may_overlap=True,
        notes=notes,
    )
    return replace(manifest, corpus=f"own ({root.name})")


def read_rows(root: Path) -> Rows:
    """Read the rows of a folder's manifest, and name those that cannot be used."""
    CORPUS.require_folder(root)
    candidates = [root / name for name in LISTINGS]
    listing = CORPUS.first_file(candidates)
    found = [path.name for path in candidates if path.is_file()]
    if len(found) > 1:
        raise CORPUS.error(f"'{root}' holds {' and '.join(found)}; keep one of them")
    lines: Iterable[tuple[int, Any]]
    if listing.suffix == ".jsonl":
        lines = [
            (n, line) for n, line in enumerate(read_text(listing).split("\n"), 1) if line.strip()
        ]
    else:
        lines = read_table(listing, ("audio", "image"), "\t" if listing.suffix == ".tsv" else ",")
    given: dict[int, dict[str, Any]] = {}
    faults: dict[int, str] = {}
    for line, content in lines:
        try:
            given[line] = _values(content)
        except (ValueError, RecursionError) as error:
            faults[line] = str(error)
        if "format" in given.get(1, ()):  # the first line of `Manifest.save`
            saved = Manifest.load(listing)
            return Rows(listing, dict(enumerate(saved.utterances, 2)), {}, saved.notes, saved)
    if not given and not faults:
        raise CORPUS.error(f"'{listing}' holds no rows; {CORPUS.expected}")

    drawn = not any(row.get("split") for row in given.values())
    numbered = any("pair_id" in row for row in given.values())
    folders = (os.path.abspath(root), os.path.realpath(root))
    pair_ids: dict[str, int] = {}
    written: dict[str, str] = {}  # the first way in which each image's path is written
    lines_of: dict[tuple[str, ...], int] = {}  # of a split's image, and of its recording
    utterances: dict[int, Utterance] = {}
    for line, row in given.items():
        try:
            for name in ("audio", "image"):
                if not row.get(name):
                    raise ValueError(f"'{name}' is missing")
            if numbered and "pair_id" not in row:
                raise ValueError("'pair_id' is missing, which other rows have")
            paths = {name: _normalised(row[name], folders) for name in ("audio", "image")}
            image = paths["image"]
            name = str(row.get("pair_id", written.setdefault(image, str(row["image"]))))
            defaults = {
                "utterance_id": str(PurePosixPath(str(paths["audio"])).with_suffix("")),
                "pair_id": pair_ids.setdefault(image, len(pair_ids)),
                "text": "",
            }
            split = _draw(name) if drawn else _split(row.get("split"))
            utterance = parse_utterance(defaults | row | paths | {"split": split})
            places = {
                "image": (split, image),
                "recording": (split, utterance.language, utterance.audio),
            }
            for what, place in places.items():
                earlier = lines_of.get(place)
                if earlier is not None and utterances[earlier].pair_id != utterance.pair_id:
                    raise ValueError(
                        f"the {what} of line {earlier} has another "
                        f"{'pair_id' if numbered else 'image'} here; leave one of them"
                    )
            utterances[line] = utterance
            lines_of |= dict.fromkeys(places.values() - lines_of.keys(), line)
        except ValueError as error:
            faults[line] = str(error)
    note = "no row has a split: a tenth of the images is dev and a tenth test, by SHA-256"
    return Rows(listing, utterances, dict(sorted(faults.items())), (note,) if drawn else ())


def _values(content: str | Mapping[str, str]) -> dict[str, Any]:
    """Parse a line of JSON, or the cells of a table's row; null and empty cells are absent."""
    if isinstance(content, str):
        row = json.loads(content)
        if not isinstance(row, dict):
            raise ValueError(f"expected an object, found {content[:80]}")
        return {name: value for name, value in row.items() if value is not None}
    cells: dict[str, Any] = {name: cell for name, cell in content.items() if cell}
    for name in cells.keys() & FIELD_TYPES.keys():
        try:
            cells[name] = json.loads(cells[name].lower() if name == "synthetic" else cells[name])
        except ValueError:
            raise ValueError(f"'{name}' is '{cells[name][:80]}', of the wrong type") from None
    return cells


def _normalised(path: Any, folders: Iterable[str]) -> Any:
    """Write a path in one way, relative to the folder where it lies below it."""
    if not isinstance(path, str):
        return path  # named by `parse_utterance`
    plain = os.path.normpath(path)
    if os.path.isabs(plain):
        for folder in folders:
            if os.path.commonpath((plain, folder)) == folder:
                return os.path.relpath(plain, folder)
    return plain


def _split(given: Any) -> str:
    match = SPLIT.fullmatch(str(given or ""))
    if match is None:
        found = f"is '{given}'" if given else "is missing, which other rows have"
        raise ValueError(f"'split' {found}; expected train, dev or test, or test_NAME")
    name = "dev" if match[1].startswith("val") else match[1]
    return name if name == "train" else name + match[2]


def _draw(name: str) -> str:
    """Draw the split of an image by its name alone, so that other rows do not change it."""
    tenth = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return DRAWN[tenth] if tenth < len(DRAWN) else "train"


CORPUS = Corpus(
    name="own",
    title="own data",
    layout=(
        "manifest.jsonl, manifest.csv or manifest.tsv with the fields audio and image, and if "
        "known text, split, language, speaker, words; and the files that it names"
    ),
    read=read,
)
