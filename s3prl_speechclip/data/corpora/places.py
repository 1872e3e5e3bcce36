"""Places Audio Captions: 400,000 spontaneous English descriptions of photographs of places (Harwath
et al. 2016, 2018), with the splits of their first publication or those of 2020.

The base paths in the metadata are those of the authors' machine; users either edit them or do not.
The Hindi and Japanese sets are read as own data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..manifest import Manifest, Utterance
from .corpus import Corpus, fullest_folder

SPLIT = re.compile(r"(train|dev|valid|val|test)(_seen|_unseen)?(_2020)?")
USUAL = {
    "audio": ("", "wavs", "audio"),
    "image": ("images", "images256", "Places205", "data", ""),
}


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read Places Audio Captions in its published layouts.

    Evaluation splits keep their published names: `dev`, or `dev_seen`, `dev_unseen`, `test_seen`
    and `test_unseen` of 2020. Where the splits of 2020 are present, the older ones are not used,
    since they overlap; where nothing is published for testing, the dev splits serve as test too.
    Notes say so.

    `text` is the published output of a speech recogniser, and the caption. Empty recordings are
    found when they are read, not here: there are too many to measure.

    The root holds `metadata/`, or one folder that does.
    """
    CORPUS.require_folder(root)
    paths = sorted((*root.glob("metadata/*.json"), *root.glob("*/metadata/*.json")))
    found = {path: match for path in paths if (match := SPLIT.fullmatch(path.stem))}
    is_2020 = any(match[3] for match in found.values())
    old = [path for path, match in found.items() if is_2020 and not match[3]]
    files: dict[str, Path] = {}
    for path, match in found.items():
        split = ("dev" if match[1].startswith("val") else match[1]) + (match[2] or "")
        if path not in old and files.setdefault(split, path) != path:
            raise CORPUS.error(f"'{files[split]}' and '{path}' are both {split}; move one away")
    dev = tuple(split for split in files if split.startswith("dev"))
    test = tuple(split for split in files if split.startswith("test"))
    for split, present in (("train", "train" in files), ("dev", dev)):
        if not present:
            where = f"'{root}/metadata/{split}*.json'"
            raise CORPUS.error(f"no metadata {where}; {CORPUS.expected}")
    pair_ids: dict[str, int] = {}
    utterances: list[Utterance] = []
    for split in ("train", *dev, *test):
        utterances += _read_file(root, files[split], split, pair_ids)
    notes = []
    if old:
        names = ", ".join(path.name for path in old)
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
        may_overlap=True,
        notes=notes,
    )


def _read_file(root: Path, path: Path, split: str, pair_ids: dict[str, int]) -> list[Utterance]:
    content = CORPUS.read_metadata(path)
    rows = [
        [str(CORPUS.member(path, row, name)).lstrip("/") for name in ("wav", "image")]
        for row in content["data"]
    ]
    sounds = _base(root, path, [wav for wav, _ in rows], content, "audio")
    images = _base(root, path, [image for _, image in rows], content, "image")
    return [
        Utterance(
            utterance_id=str(entry.get("uttid") or Path(wav).stem),
            audio=f"{sounds}{wav}",
            image=f"{images}{image}",
            pair_id=pair_ids.setdefault(image, len(pair_ids)),
            text=(text := str(entry.get("asr_text") or "").strip()),
            caption=text,
            split=split,
            speaker=str(entry.get("speaker") or ""),
        )
        for (wav, image), entry in zip(rows, content["data"], strict=True)
    ]


def _base(
    root: Path, path: Path, relative: Sequence[str], content: Mapping[str, object], kind: str
) -> str:
    """Find the folder of a file's recordings or images, as the prefix of their paths.

    The base path of the file itself comes first, since users edit it; then its tail, beside the
    file's folder and below the root; then the usual names there. The folder that holds most of a
    sample wins.
    """
    base = str(content.get(f"{kind}_base_path") or "")
    own = [Path(base)] if base.startswith("/") else []
    near = dict.fromkeys((path.parent.parent, root))
    parts = PurePosixPath(base.lstrip("/")).parts
    tails = (folder.joinpath(*parts[n:]) for n in range(len(parts)) for folder in near)
    usual = (folder / name for folder in near for name in USUAL[kind])
    candidates = [folder for folder in dict.fromkeys([*own, *tails, *usual]) if folder.is_dir()]
    found = fullest_folder(candidates, relative)
    if found is None:
        places = ", ".join(f"'{folder}'" for folder in candidates) or "nowhere"
        what = "images" if kind == "image" else "recordings"
        raise CORPUS.error(
            f"no {what} of '{path}' found: looked for '{relative[0]}' under {places}; "
            f"set '{kind}_base_path' in that file, or {CORPUS.expected}"
        )
    inner = found.relative_to(root) if found.is_relative_to(root) else found
    return "" if inner == Path() else f"{inner.as_posix()}/"


CORPUS = Corpus(
    name="places",
    title="Places Audio Captions",
    layout=(
        "metadata/{train,val}.json or metadata/{train,dev_seen,...}_2020.json, with wavs/ and "
        "images/ beside metadata/"
    ),
    read=read,
)
