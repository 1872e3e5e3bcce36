"""Find the metadata of Places Audio Captions, and the folders that it means.

The sets were published over five years in several forms: `metadata/train.json`, the splits of
2020, `PlacesHindi100k_train.json` beside its recordings, a text file for Japanese. Their base
paths are those of the authors' machine, and users either edit them or do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import CorpusError
from .files import expected

NAME = "places"
LAYOUT = (
    "metadata/{train,val}.json or metadata/{train,dev_seen,...}_2020.json with wavs/ and images/ "
    "beside metadata/; the Hindi and Japanese sets likewise or in folders of their own"
)
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
SAMPLE = 32  # files whose place decides which folder is meant


@dataclass(frozen=True)
class Metadata:
    """One metadata file: one split of one language."""

    path: Path
    distribution: Path
    """The folder that the file's set was unpacked to."""
    language: str
    split: str


def find_metadata(root: Path) -> tuple[list[Metadata], list[Path]]:
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
            raise CorpusError(
                f"{NAME}: '{found[key].path}' and '{metadata.path}' are both "
                f"{metadata.language} {metadata.split}; move one away"
            )
        found[key] = metadata
    ignored = [m.path for m, is_2020 in candidates if m.language in recent and not is_2020]
    for split in ("train", "dev"):
        if not any(name.startswith(split) for _, name in found):
            where = f"'{root}/metadata/{split}*.json'"
            raise CorpusError(f"{NAME}: no metadata {where}; {expected(LAYOUT)}")
    order = list(LANGUAGE_NAMES)
    return sorted(found.values(), key=lambda m: (order.index(m.language), m.path.name)), ignored


def find_base(
    file: Metadata, base: str, relative: Sequence[str], folders: Sequence[Path], kind: str
) -> Path:
    """Find the folder that a file's recordings or images are relative to.

    The base path of the file itself comes first, since users edit it; then its tail, below the
    folders known; then the usual names there. The folder that holds most of a sample wins.

    Args:
        file: the metadata file.
        base: the base path that it names, or nothing.
        relative: the paths in it.
        folders: the root, and where each set was unpacked to.
        kind: 'wav' or 'image'.

    Raises:
        CorpusError: none of these folders holds any of the sample.
    """
    sample = relative[:: max(1, len(relative) // SAMPLE)]
    near = list(dict.fromkeys([file.distribution, *folders]))
    candidates = [
        folder
        for folder in dict.fromkeys([*_published_bases(base, near), *_usual(near, kind)])
        if folder.is_dir()
    ]
    counts = [sum((folder / path).is_file() for path in sample) for folder in candidates]
    if not any(counts):
        places = ", ".join(f"'{folder}'" for folder in candidates) or "nowhere"
        what, member = ("images", "image") if kind == "image" else ("recordings", "audio")
        raise CorpusError(
            f"{NAME}: no {what} of '{file.path}' found: looked for '{relative[0]}' under {places}; "
            f"set '{member}_base_path' in that file, or {expected(LAYOUT)}"
        )
    return candidates[counts.index(max(counts))]


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
