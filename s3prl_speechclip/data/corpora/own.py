"""A folder of one's own: a manifest, and the recordings and images that it names.

The manifest is `manifest.jsonl` (one object a line), `manifest.csv` or `manifest.tsv` (with a
header row). Its fields are those of `Utterance`; `audio` and `image` must be there, the others may
be absent, empty or null:

- audio, image: paths relative to the folder, or absolute;
- split: train, dev or val, test, also with a suffix such as test_seen; where no row has one, a
  tenth of the images is dev and a tenth test, by the SHA-256 of their names;
- text, caption, language, speaker, duration: see `Utterance`;
- words: word times, a list of [text, start, end] in seconds (in a table, that list as JSON);
- utterance_id: default, the recording's path without its suffix;
- pair_id: a number that images of one answer share; default, one a path of an image.

A manifest that `Manifest.save` wrote is read as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
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

    utterances: dict[int, Utterance]
    faults: dict[int, str]
    """Reasons of the rows that cannot be used."""
    notes: tuple[str, ...] = ()


def read_manifest(root: Path, skip_broken: bool = False) -> Manifest:
    """Read a folder's `manifest.jsonl` as `Manifest.save` wrote it.

    Raises:
        CorpusError: the manifest is missing, of another format or damaged.
    """
    return Manifest.load(root / MANIFEST)


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read a folder with a manifest.

    Args:
        root: folder of the manifest.
        skip_broken: leave out, and count, rows that cannot be used, and recordings whose own file
            or image is missing or empty.

    Raises:
        CorpusError: there is no manifest, or a row, a recording or an image cannot be used.
    """
    listing = find_listing(root)
    if _is_saved(listing):
        saved = read_manifest(root)
        kept, notes = CORPUS.keep_sound(root, saved.utterances, skip_broken, sizes=True)
        return replace(saved, utterances=kept, notes=(*saved.notes, *notes))
    rows = read_rows(root)
    notes = rows.notes
    if rows.faults:
        line, reason = next(iter(rows.faults.items()))
        found = (
            f"{len(rows.faults)} rows of '{listing}' cannot be used (first line {line}: {reason})"
        )
        if not skip_broken:
            raise CORPUS.error(f"{found}; correct them, or leave them out with --skip-broken")
        notes = (f"left out: {found}", *notes)
    splits = sorted({utterance.split for utterance in rows.utterances.values()})
    manifest = CORPUS.manifest(
        root,
        list(rows.utterances.values()),
        skip_broken,
        sizes=True,
        train="train" in splits,
        dev_splits=tuple(split for split in splits if split.startswith("dev")),
        test_splits=tuple(split for split in splits if split.startswith("test")),
        overlap="note",
        notes=notes,
    )
    return replace(manifest, corpus=f"own ({root.name})")


def find_listing(root: Path) -> Path:
    """Return a folder's manifest.

    Raises:
        CorpusError: there is none, or there are several.
    """
    CORPUS.require_folder(root)
    found = [root / name for name in LISTINGS if (root / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise CORPUS.error(f"'{root}' holds {names}; keep one of them")
    return found[0] if found else CORPUS.first_file([root / name for name in LISTINGS])


def read_rows(root: Path) -> Rows:
    """Read the rows of a folder's manifest, and name those that cannot be used.

    Raises:
        CorpusError: there is no manifest, it cannot be read, or a table is malformed.
    """
    listing = find_listing(root)
    if _is_saved(listing):
        saved = read_manifest(root)
        return Rows(dict(enumerate(saved.utterances, 2)), {}, saved.notes)
    given: dict[int, dict[str, Any]] = {}
    faults: dict[int, str] = {}
    if listing.suffix == ".jsonl":
        for line, text in enumerate(read_text(listing).split("\n"), 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise ValueError(f"expected an object, found {text[:80]}")
                given[line] = {name: value for name, value in row.items() if value is not None}
            except (ValueError, RecursionError) as error:
                faults[line] = str(error)
    else:
        delimiter = "\t" if listing.suffix == ".tsv" else ","
        for line, cells in read_table(listing, ("audio", "image"), delimiter):
            try:
                given[line] = {name: _value(name, cell) for name, cell in cells.items() if cell}
            except ValueError as error:
                faults[line] = str(error)
    if not given and not faults:
        raise CORPUS.error(f"'{listing}' holds no rows; {CORPUS.expected}")

    drawn = not any(row.get("split") for row in given.values())
    numbered = any("pair_id" in row for row in given.values())
    pair_ids: dict[str, int] = {}
    utterances: dict[int, Utterance] = {}
    for line, row in given.items():
        try:
            for name in ("audio", "image"):
                if not row.get(name):
                    raise ValueError(f"'{name}' is missing")
            if numbered and "pair_id" not in row:
                raise ValueError("'pair_id' is missing, which other rows have")
            image = str(row["image"])
            defaults = {
                "utterance_id": str(PurePosixPath(str(row["audio"])).with_suffix("")),
                "pair_id": pair_ids.setdefault(image, len(pair_ids)),
                "text": "",
            }
            split = _draw(str(row.get("pair_id", image))) if drawn else _split(row.get("split"))
            utterances[line] = parse_utterance(defaults | row | {"split": split})
        except ValueError as error:
            faults[line] = str(error)
    note = "no row has a split: a tenth of the images is dev and a tenth test, by SHA-256"
    return Rows(utterances, dict(sorted(faults.items())), (note,) if drawn else ())


def _is_saved(listing: Path) -> bool:
    """Return whether `Manifest.save` wrote a manifest: its first line is about the corpus."""
    if listing.name != MANIFEST:
        return False
    try:
        first = json.loads(read_text(listing).partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "format" in first


def _value(name: str, cell: str) -> Any:
    """Read a cell of a table as the type of its field."""
    if FIELD_TYPES.get(name, str) is str:
        return cell
    try:
        return json.loads(cell.lower() if name == "synthetic" else cell)
    except ValueError:
        raise ValueError(f"'{name}' is '{cell[:80]}', of the wrong type") from None


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
