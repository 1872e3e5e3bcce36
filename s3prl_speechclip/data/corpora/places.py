"""Places Audio Captions: 400,000 spontaneous English descriptions of photographs of places, and
100,000 each in Hindi and Japanese (Harwath et al. 2016, 2018; Ohishi et al. 2020).

The metadata names the folders of its authors' machine; `places_layout` finds what it means here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import CorpusError
from ..manifest import Manifest, Utterance
from .files import keep_sound, member, read_json, read_lines, require_folder, require_splits
from .places_layout import LANGUAGE_NAMES, LAYOUT, NAME, Metadata, find_base, find_metadata

log = logging.getLogger(__name__)

Row = dict[str, Any]


class Listing(NamedTuple):
    """What one metadata file holds, in one form whatever the file's own."""

    rows: list[Row]
    """Of `wav image uttid speaker text`."""
    bases: dict[str, str]
    """The base paths that it names, of 'wav' and 'image'."""


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read Places Audio Captions in its published layouts, one language or several.

    Training recordings of all languages are the split `train`. Evaluation splits keep their
    published names, and are kept apart by language: `dev`, `dev_seen`, `dev_unseen`, `test_seen`,
    `test_unseen` in English, `dev_hi`, `test_hi`, `dev_ja` and so on. A published `val` or `valid`
    is a dev split; where nothing is published for testing, the dev splits serve as test too, which
    a note says. Where the English splits of 2020 are present, the older ones are not used, since
    they overlap. Notes also count evaluation images that another language's training set shows.

    `text` is the published output of a speech recogniser; `caption` the English one of the same
    image. Empty recordings are found when they are read, not here: there are too many to measure.

    Args:
        root: a folder with `metadata/`, or one that holds several such folders.
        skip_broken: leave out, and count, recordings whose own file or image is missing.

    Raises:
        CorpusError: metadata, a recording or an image is missing, or metadata is malformed.
    """
    require_folder(NAME, root, LAYOUT)
    files, ignored = find_metadata(root)
    folders = [root, *dict.fromkeys(file.distribution for file in files)]
    listings = {file: _listing(file) for file in files}
    captions = _english_captions(listings)
    pair_ids: dict[str, int] = {}
    utterances: list[Utterance] = []
    for file, listing in listings.items():
        audio = _base(root, file, listing, folders, "wav")
        images = _base(root, file, listing, folders, "image")
        for entry in listing.rows:
            utterances.append(
                Utterance(
                    utterance_id=str(entry["uttid"]),
                    audio=f"{audio}{entry['wav']}",
                    image=f"{images}{entry['image']}",
                    pair_id=pair_ids.setdefault(entry["image"], len(pair_ids)),
                    text=entry["text"],
                    caption=captions.get(entry["image"], ""),
                    split=file.split,
                    speaker=str(entry["speaker"]),
                    language=file.language,
                )
            )
    kept, notes = keep_sound(NAME, root, utterances, skip_broken, sizes=False)
    splits = tuple(dict.fromkeys(file.split for file in files))
    require_splits(NAME, kept, splits)
    dev = tuple(split for split in splits if split.startswith("dev"))
    test = tuple(split for split in splits if split.startswith("test"))
    facts = [*_ignored_note(ignored), *_overlap_notes(kept, dev + test)]
    if not test:
        facts.append(f"no test split: {', '.join(dev)} serves as dev and as test")
    for fact in facts:
        log.warning("%s: %s", NAME, fact)
    return Manifest(
        corpus=NAME,
        root=root,
        utterances=kept,
        dev_splits=dev,
        test_splits=test or dev,
        notes=(*notes, *facts),
    )


def _listing(file: Metadata) -> Listing:
    if file.path.suffix == ".txt":
        return Listing([_pair(file.path, line) for line in read_lines(NAME, file.path)], {})
    # The Hindi set beside English names both recordings of an image: `hindi_wav`, `english_wav`.
    language = LANGUAGE_NAMES[file.language]
    content = read_json(NAME, file.path)
    rows = []
    for row in content["data"]:
        wav = str(member(NAME, file.path, row, "wav", f"{language}_wav")).lstrip("/")
        rows.append(
            {
                "wav": wav,
                "image": str(member(NAME, file.path, row, "image")).lstrip("/"),
                "uttid": row.get("uttid", row.get(f"{language}_uttid", Path(wav).stem)),
                "speaker": row.get("speaker", row.get(f"{language}_speaker", "")),
                "text": str(row.get("asr_text", row.get(f"{language}_asr_text", ""))).strip(),
            }
        )
    audio = content.get("audio_base_path") or content.get(f"{language}_base_path") or ""
    images = content.get("image_base_path") or ""
    return Listing(rows, {"wav": str(audio), "image": str(images)})


def _pair(path: Path, line: str) -> Row:
    """Read a line `image wav` of the Japanese set."""
    fields = line.split()
    if len(fields) != 2:
        raise CorpusError(f"{NAME}: '{path}' must hold lines 'image wav', found '{line[:80]}'")
    image, wav = (field.lstrip("/") for field in fields)
    return {"wav": wav, "image": image, "uttid": Path(wav).stem, "speaker": "", "text": ""}


def _english_captions(listings: dict[Metadata, Listing]) -> dict[str, str]:
    captions: dict[str, str] = {}
    for file, listing in listings.items():
        if file.language == "en":
            for row in listing.rows:
                captions.setdefault(row["image"], row["text"])
    return captions


def _base(root: Path, file: Metadata, listing: Listing, folders: Sequence[Path], kind: str) -> str:
    """Give what precedes the file's paths, relative to the root where it lies in it."""
    paths = [row[kind] for row in listing.rows]
    found = find_base(file, listing.bases.get(kind, ""), paths, folders, kind)
    relative = found.relative_to(root) if found.is_relative_to(root) else found
    return "" if relative == Path() else f"{relative.as_posix()}/"


def _ignored_note(ignored: Sequence[Path]) -> list[str]:
    if not ignored:
        return []
    names = ", ".join(path.name for path in ignored)
    return [f"{names} not used: the splits of 2020 are present and overlap with them"]


def _overlap_notes(utterances: Sequence[Utterance], splits: Sequence[str]) -> list[str]:
    trained = {u.pair_id for u in utterances if u.split == "train"}
    notes = []
    for split in splits:
        images = {u.pair_id for u in utterances if u.split == split}
        if shared := len(images & trained):
            notes.append(f"{shared} of {len(images)} images of '{split}' are in 'train' too")
    return notes
