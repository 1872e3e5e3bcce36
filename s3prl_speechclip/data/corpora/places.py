"""Places Audio Captions: 400,000 spontaneous English descriptions of photographs of places, and
100,000 each in Hindi and Japanese (Harwath et al. 2016, 2018; Ohishi et al. 2020).

The sets were published over five years in several forms: `metadata/train.json`, the splits of
2020, `PlacesHindi100k_train.json` beside its recordings, a text file for Japanese. Their base
paths are those of the authors' machine, and users either edit them or do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..files import read_lines
from ..manifest import Manifest, Utterance
from .corpus import Corpus, fullest_folder

LANGUAGE_NAMES = {"en": "english", "hi": "hindi", "ja": "japanese"}
LANGUAGES = {
    "hi": re.compile(r"hindi|(?:^|[_-])hi(?:$|[_-])"),
    "ja": re.compile(r"japanese|jpn|(?:^|[_-])(?:ja|jp)(?:$|[_-])"),
}
SPLIT = re.compile(r"(?:^|[_-])(train|dev|valid|val|test)(?:_(seen|unseen))?(_2020)?(?=$|[_-])")
USUAL = {
    "wav": ("", "wavs", "audio", "hindi_wavs"),
    "image": ("images", "images256", "Places205", "data", ""),
}

Row = dict[str, str]


@dataclass(frozen=True)
class Metadata:
    """One metadata file: one split of one language."""

    path: Path
    distribution: Path
    """Folder that the file's set was unpacked to."""
    language: str
    split: str


class Listing(NamedTuple):
    """Content of one metadata file, in one form whatever the file's own."""

    rows: list[Row]
    """Rows of `wav image uttid speaker text`."""
    bases: Mapping[str, str]
    """Base paths that the file names, of 'wav' and 'image'."""


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
    CORPUS.require_folder(root)
    files, ignored = _find_metadata(root)
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
                    utterance_id=entry["uttid"],
                    audio=f"{audio}{entry['wav']}",
                    image=f"{images}{entry['image']}",
                    pair_id=pair_ids.setdefault(entry["image"], len(pair_ids)),
                    text=entry["text"],
                    caption=captions.get(entry["image"], ""),
                    split=file.split,
                    speaker=entry["speaker"],
                    language=file.language,
                )
            )
    splits = dict.fromkeys(file.split for file in files)
    dev = tuple(split for split in splits if split.startswith("dev"))
    test = tuple(split for split in splits if split.startswith("test"))
    notes = []
    if ignored:
        names = ", ".join(path.name for path in ignored)
        notes.append(f"{names} not used: the splits of 2020 are present and overlap with them")
    if not test:
        notes.append(f"no test split: {', '.join(dev)} serves as dev and as test")
    return CORPUS.manifest(
        root,
        utterances,
        skip_broken,
        sizes=False,
        dev_splits=dev,
        test_splits=test or dev,
        overlap="note",
        notes=notes,
    )


def _listing(file: Metadata) -> Listing:
    if file.path.suffix == ".txt":
        lines = read_lines(file.path)
        if not lines:
            raise CORPUS.error(f"'{file.path}' holds no lines; restore it")
        return Listing([_pair(file.path, line) for line in lines], {})
    # The Hindi set beside English names both recordings of an image: `hindi_wav`, `english_wav`.
    language = LANGUAGE_NAMES[file.language]
    content = CORPUS.read_metadata(file.path)
    rows = []
    for row in content["data"]:
        wav = str(CORPUS.member(file.path, row, "wav", f"{language}_wav")).lstrip("/")
        image = str(CORPUS.member(file.path, row, "image")).lstrip("/")
        found = {name: _either(row, name, language) for name in ("uttid", "speaker", "asr_text")}
        rows.append(
            {
                "wav": wav,
                "image": image,
                "uttid": found["uttid"] or Path(wav).stem,
                "speaker": found["speaker"],
                "text": found["asr_text"].strip(),
            }
        )
    audio = content.get("audio_base_path") or content.get(f"{language}_base_path") or ""
    images = content.get("image_base_path") or ""
    return Listing(rows, {"wav": str(audio), "image": str(images)})


def _either(row: Mapping[str, Any], name: str, language: str) -> str:
    """Return a member or, where it is absent or null, the language's own; else nothing."""
    found = row.get(name)
    if found is None:
        found = row.get(f"{language}_{name}")
    return "" if found is None else str(found)


def _pair(path: Path, line: str) -> Row:
    """Read a line `image wav` of the Japanese set."""
    fields = line.split()
    if len(fields) != 2:
        raise CORPUS.error(f"'{path}' must hold lines 'image wav', found '{line[:80]}'")
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
    """Find the folder of a file's recordings or images, as the prefix of their paths.

    The base path of the file itself comes first, since users edit it; then its tail, below the
    folders known; then the usual names there. The folder that holds most of a sample wins.

    Args:
        root: folder of the corpus; a folder below it is given relative to it.
        file: metadata file.
        listing: its content.
        folders: the root, and the folders that the sets were unpacked to.
        kind: 'wav' or 'image'.

    Raises:
        CorpusError: none of these folders holds any of the sample.
    """
    relative = [row[kind] for row in listing.rows]
    near = list(dict.fromkeys([file.distribution, *folders]))
    candidates = [
        folder
        for folder in dict.fromkeys(
            [*_published_bases(listing.bases.get(kind, ""), near), *_usual(near, kind)]
        )
        if folder.is_dir()
    ]
    found = fullest_folder(candidates, relative)
    if found is None:
        places = ", ".join(f"'{folder}'" for folder in candidates) or "nowhere"
        what, member = ("images", "image") if kind == "image" else ("recordings", "audio")
        raise CORPUS.error(
            f"no {what} of '{file.path}' found: looked for '{relative[0]}' under {places}; "
            f"set '{member}_base_path' in that file, or {CORPUS.expected}"
        )
    inner = found.relative_to(root) if found.is_relative_to(root) else found
    return "" if inner == Path() else f"{inner.as_posix()}/"


def _find_metadata(root: Path) -> tuple[list[Metadata], list[Path]]:
    """Find the metadata to use, English first, and the older files that it replaces.

    Raises:
        CorpusError: no training or no dev metadata is found, or a split is there twice.
    """
    found: dict[tuple[str, str], Metadata] = {}
    candidates = list(_candidates(root))
    recent = {m.language for m, is_2020 in candidates if is_2020}
    for metadata, is_2020 in candidates:
        if metadata.language in recent and not is_2020:
            continue
        key = (metadata.language, metadata.split)
        if key in found:
            raise CORPUS.error(
                f"'{found[key].path}' and '{metadata.path}' are both "
                f"{metadata.language} {metadata.split}; move one away"
            )
        found[key] = metadata
    ignored = [m.path for m, is_2020 in candidates if m.language in recent and not is_2020]
    for split in ("train", "dev"):
        if not any(name.startswith(split) for _, name in found):
            where = f"'{root}/metadata/{split}*.json'"
            raise CORPUS.error(f"no metadata {where}; {CORPUS.expected}")
    order = list(LANGUAGE_NAMES)
    return sorted(found.values(), key=lambda m: (order.index(m.language), m.path.name)), ignored


def _candidates(root: Path) -> Iterator[tuple[Metadata, bool]]:
    inner = sorted(p for p in root.iterdir() if p.is_dir() and p.name != "metadata")
    for distribution in (root, *inner):
        for folder in (distribution / "metadata", distribution):
            paths = [*sorted(folder.glob("*.json")), *sorted(folder.glob("*image2audio*.txt"))]
            for path in paths:
                match = SPLIT.search(path.stem)
                if match:
                    folder_name = "" if distribution == root else distribution.name
                    language = _language(path.stem, folder_name)
                    split = _split(match, language)
                    yield Metadata(path, distribution, language, split), bool(match[3])


def _language(file: str, folder: str) -> str:
    """Read the language from a file's name, else from its folder's; the root's says nothing."""
    for name in (file, folder):
        for language, pattern in LANGUAGES.items():
            if pattern.search(name.lower()):
                return language
    return "en"


def _split(match: re.Match[str], language: str) -> str:
    name = "dev" if match[1] in ("val", "valid") else match[1]
    if name == "train":
        return name
    parts = [name, match[2], language if language != "en" else None]
    return "_".join(part for part in parts if part)


def _published_bases(base: str, near: Sequence[Path]) -> Iterator[Path]:
    parts = PurePosixPath(base).parts
    if parts[:1] == ("/",):
        yield Path(base)
        parts = parts[1:]
    for start in range(len(parts)):
        for folder in near:
            yield folder.joinpath(*parts[start:])


def _usual(near: Sequence[Path], kind: str) -> Iterator[Path]:
    for folder in near:
        for name in USUAL[kind]:
            yield folder / name


CORPUS = Corpus(
    name="places",
    title="Places Audio Captions",
    layout=(
        "metadata/{train,val}.json or metadata/{train,dev_seen,...}_2020.json with wavs/ and "
        "images/ beside metadata/; the Hindi and Japanese sets likewise or in folders of their own"
    ),
    read=read,
)
