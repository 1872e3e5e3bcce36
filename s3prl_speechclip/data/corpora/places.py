"""Places Audio Captions: 400,000 spontaneous English descriptions of photographs of places, and
100,000 each in Hindi and Japanese (Harwath et al. 2016, 2018; Ohishi et al. 2020).

The sets were published over five years in several forms: `metadata/train.json`, the splits of
2020, `PlacesHindi100k_train.json` beside its recordings, a text file for Japanese. Their base
paths are those of the authors' machine, and users either edit them or do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

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


@dataclass(frozen=True)
class Metadata:
    """One metadata file: one split of one language."""

    path: Path
    distribution: Path
    """Folder that the file's set was unpacked to."""
    language: str
    split: str
    of_2020: bool


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

    The root holds `metadata/`, or several folders that do.
    """
    CORPUS.require_folder(root)
    files, ignored = _find_metadata(root)
    folders = [root, *dict.fromkeys(file.distribution for file in files)]
    captions: dict[str, str] = {}
    pair_ids: dict[str, int] = {}
    utterances: list[Utterance] = []
    for file in files:  # English first
        rows, bases = _read_file(file)
        near = list(dict.fromkeys([file.distribution, *folders]))
        prefix = {
            kind: _base(root, file, [row[kind] for row in rows], bases.get(kind, ""), near, kind)
            for kind in USUAL
        }
        for row in rows:
            image = row["image"]
            if file.language == "en":
                captions.setdefault(image, row["text"])
            utterances.append(
                Utterance(
                    utterance_id=row["uttid"],
                    audio=f"{prefix['wav']}{row['wav']}",
                    image=f"{prefix['image']}{image}",
                    pair_id=pair_ids.setdefault(image, len(pair_ids)),
                    text=row["text"],
                    split=file.split,
                    speaker=row["speaker"],
                    language=file.language,
                )
            )
    images = list(pair_ids)
    utterances = [replace(u, caption=captions.get(images[u.pair_id], "")) for u in utterances]
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


def _read_file(file: Metadata) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Read rows of `wav image uttid speaker text`, and the base paths of 'wav' and 'image'."""
    path, language = file.path, LANGUAGE_NAMES[file.language]
    rows = []
    if path.suffix == ".txt":  # Japanese
        for line in read_lines(path):
            fields = line.split()
            if len(fields) != 2:
                raise CORPUS.malformed(path, "image wav", line)
            image, wav = (field.lstrip("/") for field in fields)
            row = {"wav": wav, "image": image, "uttid": Path(wav).stem, "speaker": "", "text": ""}
            rows.append(row)
        if not rows:
            raise CORPUS.error(f"'{path}' holds no lines; restore it")
        return rows, {}
    # The Hindi set beside English names both recordings of an image: `hindi_wav`, `english_wav`.
    content = CORPUS.read_metadata(path)
    for entry in content["data"]:
        wav = str(CORPUS.member(path, entry, "wav", f"{language}_wav")).lstrip("/")
        image = str(CORPUS.member(path, entry, "image")).lstrip("/")
        uttid, speaker, text = (
            next(
                (str(entry[n]) for n in (name, f"{language}_{name}") if entry.get(n) is not None),
                "",
            )
            for name in ("uttid", "speaker", "asr_text")
        )
        row = {"wav": wav, "image": image, "uttid": uttid or Path(wav).stem}
        rows.append(row | {"speaker": speaker, "text": text.strip()})
    audio = content.get("audio_base_path") or content.get(f"{language}_base_path") or ""
    images = content.get("image_base_path") or ""
    return rows, {"wav": str(audio), "image": str(images)}


def _base(
    root: Path, file: Metadata, relative: Sequence[str], base: str, near: Sequence[Path], kind: str
) -> str:
    """Find the folder of a file's recordings or images, as the prefix of their paths.

    The base path of the file itself comes first, since users edit it; then its tail, below the
    folders known; then the usual names there. The folder that holds most of a sample wins.

    Args:
        root: folder of the corpus; a folder below it is given relative to it.
        file: metadata file.
        relative: paths that it lists.
        base: base path that it names, may be empty.
        near: folders that the sets were unpacked to, its own first.
        kind: 'wav' or 'image'.
    """
    own = [Path(base)] if base.startswith("/") else []
    parts = PurePosixPath(base.lstrip("/")).parts
    tails = (folder.joinpath(*parts[n:]) for n in range(len(parts)) for folder in near)
    usual = (folder / name for folder in near for name in USUAL[kind])
    candidates = [path for path in dict.fromkeys([*own, *tails, *usual]) if path.is_dir()]
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
    """Find the metadata to use, English first, and the older files that it replaces."""
    candidates: list[Metadata] = []
    inner = sorted(p for p in root.iterdir() if p.is_dir() and p.name != "metadata")
    for distribution in (root, *inner):
        name = "" if distribution == root else distribution.name
        for folder in (distribution / "metadata", distribution):
            for path in (*sorted(folder.glob("*.json")), *sorted(folder.glob("*image2audio*.txt"))):
                match = SPLIT.search(path.stem)
                if match:
                    language = _language(path.stem, name)
                    split = _split(match, language)
                    candidates.append(Metadata(path, distribution, language, split, bool(match[3])))
    recent = {file.language for file in candidates if file.of_2020}
    ignored = [f.path for f in candidates if f.language in recent and not f.of_2020]
    found: dict[tuple[str, str], Metadata] = {}
    for file in candidates:
        if file.path in ignored:
            continue
        first = found.setdefault((file.language, file.split), file)
        if first is not file:
            raise CORPUS.error(
                f"'{first.path}' and '{file.path}' are both {file.language} {file.split}; move "
                "one away"
            )
    for split in ("train", "dev"):
        if not any(name.startswith(split) for _, name in found):
            where = f"'{root}/metadata/{split}*.json'"
            raise CORPUS.error(f"no metadata {where}; {CORPUS.expected}")
    order = list(LANGUAGE_NAMES)
    return sorted(found.values(), key=lambda f: (order.index(f.language), f.path.name)), ignored


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


CORPUS = Corpus(
    name="places",
    title="Places Audio Captions",
    layout=(
        "metadata/{train,val}.json or metadata/{train,dev_seen,...}_2020.json with wavs/ and "
        "images/ beside metadata/; the Hindi and Japanese sets likewise or in folders of their own"
    ),
    read=read,
)
