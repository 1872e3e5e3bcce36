"""SpokenCOCO: 123,000 photographs, 605,000 read captions (Hsu et al. 2021)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import CorpusError
from ..manifest import Manifest, Utterance
from .files import first_file, keep_sound, member, read_json, require_folder, require_splits

log = logging.getLogger(__name__)

NAME = "spokencoco"
LAYOUT = (
    "SpokenCOCO/SpokenCOCO_{train,val}.json or SpokenCOCO/SpokenCOCO_ksplit_{train,val,test}.json, "
    "SpokenCOCO/wavs/, mscoco_img/{train,val}2014/"
)
AUDIO = "SpokenCOCO"
IMAGES = "mscoco_img"
KARPATHY = {"train": "train", "dev": "val", "test": "test"}
PUBLISHED = {"train": "train", "dev": "val"}


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read SpokenCOCO in its published layout.

    The Karpathy split files `SpokenCOCO_ksplit_*.json` are used where one of them is present, and
    then all three must be; else the published train and val, where val serves as dev and as test,
    which a note says. An image's `reassign_id` is its `pair_id`; without one, its COCO number is.
    Empty recordings are found when they are read, not here: there are too many to measure.

    Args:
        root: the folder that holds `SpokenCOCO/` and `mscoco_img/`.
        skip_broken: leave out, and count, recordings whose own file or image is missing.

    Raises:
        CorpusError: metadata, a recording or an image is missing, or metadata is malformed.
    """
    for folder in (root, root / AUDIO, root / IMAGES):
        require_folder(NAME, folder, LAYOUT)
    karpathy = any(_file(root, "_ksplit", name).is_file() for name in KARPATHY.values())
    splits = KARPATHY if karpathy else PUBLISHED
    infix = "_ksplit" if karpathy else ""

    utterances: list[Utterance] = []
    for split, name in splits.items():
        path = first_file(NAME, [_file(root, infix, name)], LAYOUT)
        utterances += _utterances(path, split)
    kept, notes = keep_sound(NAME, root, utterances, skip_broken, sizes=False)
    require_splits(NAME, kept, splits)
    if not karpathy:
        notes += ("no test split: SpokenCOCO_val.json serves as dev and as test",)
        log.warning("%s: %s", NAME, notes[-1])
    return Manifest(
        corpus=NAME,
        root=root,
        utterances=kept,
        test_splits=("test",) if karpathy else ("dev",),
        notes=notes,
    )


def _file(root: Path, infix: str, name: str) -> Path:
    return root / AUDIO / f"SpokenCOCO{infix}_{name}.json"


def _utterances(path: Path, split: str) -> list[Utterance]:
    rows = read_json(NAME, path)["data"]
    utterances = []
    for row, pair_id in zip(rows, _pair_ids(path, rows), strict=True):
        image = member(NAME, path, row, "image")
        for caption in member(NAME, path, row, "captions"):
            wav = member(NAME, path, caption, "wav")
            text = str(caption.get("text", "")).strip()
            utterances.append(
                Utterance(
                    utterance_id=str(caption.get("uttid") or Path(wav).stem),
                    audio=f"{AUDIO}/{wav}",
                    image=f"{IMAGES}/{image}",
                    pair_id=pair_id,
                    text=text,
                    caption=text,
                    split=split,
                    speaker=str(caption.get("speaker", "")),
                )
            )
    return utterances


def _pair_ids(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    given = sum("reassign_id" in row for row in rows)
    if given not in (0, len(rows)):
        # COCO numbers beside reassigned ones could make two images one answer.
        raise CorpusError(
            f"{NAME}: {given} of {len(rows)} entries of '{path}' have a 'reassign_id'; "
            "all or none must"
        )
    try:
        if given:
            return [int(row["reassign_id"]) for row in rows]
        images = [str(member(NAME, path, row, "image")) for row in rows]
        return [int(Path(image).stem.rpartition("_")[2]) for image in images]
    except (TypeError, ValueError) as error:
        raise CorpusError(
            f"{NAME}: an image of '{path}' has no number ({error}); "
            "expected COCO_val2014_000000000042.jpg or a 'reassign_id'"
        ) from None
