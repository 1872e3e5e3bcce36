"""SpokenCOCO: 123,000 photographs, 605,000 read captions (Hsu et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..manifest import Manifest, Utterance
from .corpus import Corpus

AUDIO = "SpokenCOCO"
IMAGES = "mscoco_img"
KARPATHY = (  # the Karpathy split as SpeechCLIP's and FaST-VGS's authors give it
    "SpokenCOCO_ksplit_{}.json",
    "SpokenCOCO_{}_karpathy.json",
    "SpokenCOCO_{}_unrolled_karpathy.json",
)
PUBLISHED = "SpokenCOCO_{}.json"
FILE_SPLITS = {"train": "train", "dev": "val", "test": "test"}


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read SpokenCOCO with its published metadata or one of the forms of the Karpathy split.

    A Karpathy split is used where one of its files is present, and then all three must be; else
    the published train and val, where val serves as dev and as test, which a note says. An image's
    `reassign_id` is its `pair_id`; without one, its COCO number is. Empty recordings are found when
    they are read, not here: there are too many to measure.
    """
    for folder in (root, root / AUDIO, root / IMAGES):
        CORPUS.require_folder(folder)
    found = {path.name for path in (root / AUDIO).iterdir()}
    names = FILE_SPLITS.values()
    forms = (form for form in KARPATHY if not found.isdisjoint(map(form.format, names)))
    karpathy = next(forms, None)
    utterances: list[Utterance] = []
    for split, name in FILE_SPLITS.items():
        if karpathy or split != "test":
            path = CORPUS.first_file([root / AUDIO / (karpathy or PUBLISHED).format(name)])
            utterances += _utterances(path, split)
    return CORPUS.manifest(
        root,
        utterances,
        skip_broken,
        sizes=False,
        test_splits=("test",) if karpathy else ("dev",),
        notes=() if karpathy else ("no test split: SpokenCOCO_val.json serves as dev and as test",),
    )


def _utterances(path: Path, split: str) -> Iterator[Utterance]:
    rows = CORPUS.read_metadata(path)["data"]
    reassigned = sum("reassign_id" in row for row in rows)
    if reassigned not in (0, len(rows)):
        # COCO numbers beside reassigned ones could make two images one answer.
        raise CORPUS.error(
            f"{reassigned} of {len(rows)} entries of '{path}' have a 'reassign_id'; all or none "
            "must"
        )
    for row in rows:
        image = str(CORPUS.member(path, row, "image"))
        try:
            pair_id = int(row["reassign_id"] if reassigned else Path(image).stem.split("_")[-1])
        except (TypeError, ValueError) as error:
            raise CORPUS.error(
                f"an image of '{path}' has no number ({error}); "
                "expected COCO_val2014_000000000042.jpg or a 'reassign_id'"
            ) from None
        # FaST-VGS's form has a row for each caption, the others one for each image.
        captions = CORPUS.member(path, row, "captions", "caption")
        for caption in captions if isinstance(captions, list) else [captions]:
            wav = str(CORPUS.member(path, caption, "wav"))
            text = str(caption.get("text") or "").strip()
            yield Utterance(
                utterance_id=str(caption.get("uttid") or Path(wav).stem),
                audio=f"{AUDIO}/{wav}",
                image=f"{IMAGES}/{image}",
                pair_id=pair_id,
                text=text,
                caption=text,
                split=split,
                speaker=str(caption.get("speaker") or ""),
            )


CORPUS = Corpus(
    name="spokencoco",
    title="SpokenCOCO",
    layout=(
        "SpokenCOCO/SpokenCOCO_{train,val}.json, or the Karpathy split in "
        "SpokenCOCO/SpokenCOCO_ksplit_{train,val,test}.json, or FaST-VGS's "
        "SpokenCOCO/SpokenCOCO_{train,val,test}[_unrolled]_karpathy.json; SpokenCOCO/wavs/, "
        "mscoco_img/{train,val}2014/"
    ),
    read=read,
    published=(
        {"train": 113_287, "dev": 5000, "test": 5000},  # Karpathy's
        {"train": 118_287, "dev": 5000},  # SpokenCOCO's own
    ),
)
