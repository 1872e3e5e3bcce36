"""A corpus to train on beside another: emoji and word cards, their names read aloud in English.

Pictures that look like one of the stamps that are held out from training are left out, so that
training on both never shows a held-out picture; the voices that the stamps hold out read nothing.
Half the readers of a name are drawn from some fifty voices that read nothing of the stamps, so that
a word is heard from more speakers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...data.manifest import MANIFEST, Manifest, Utterance
from .. import mini_set
from ..making import Saying, draw, file_name, record
from ..pictures import copies, fingerprints, read_drafts
from ..synthesis.voices import HELD_OUT_VOICES, VOICES, Voice, training_speakers
from .stamps import TRAIN, UNSEEN

SOURCES = ("emoji", "word_cards")
IMAGES = "images/"
FAMILIAR = 2  # readers of a name, of the stamps' voices that training uses
OTHERS = 2  # readers that read nothing else to the models
OTHER_VOICES = training_speakers()
READING: Mapping[str, Voice] = {**VOICES, **OTHER_VOICES}


def make(folder: Path, archive: Path | None) -> None:
    """Fill a folder with the corpus, which has a training split only."""
    stamps = Manifest.load(mini_set("stamps", archive).root / MANIFEST)
    images = sorted({u.image for u in stamps.utterances if u.split in UNSEEN})
    build(folder, [stamps.path(image) for image in images], archive)


def build(folder: Path, held_out: Sequence[Path], archive: Path | None) -> None:
    """Fill a folder with pictures that look like none of the stamps that are held out."""
    drafts, packages = read_drafts(SOURCES, archive)
    made = draw([draft.drawing(IMAGES) for draft in drafts], folder)
    shown = [
        draft
        for draft, result in zip(drafts, made, strict=True)
        if not result.fault and not result.blank
    ]
    paths = [folder / draft.drawing(IMAGES).path for draft in shown]
    copied = copies(fingerprints(paths), fingerprints(held_out))
    kept = [draft for draft, copy in zip(shown, copied, strict=True) if not copy]
    plan = [
        (draft, voice, f"audio/{voice}/{file_name(draft.captions[0])}.wav")
        for draft in kept
        for voice in readers(draft.captions[0])
    ]
    sayings = {path: Saying(READING[voice], draft.captions[0]) for draft, voice, path in plan}
    readings = record(sayings, folder, archive, keep_faults=True)
    # Pictures of one name are one answer.
    names = sorted({draft.captions[0] for draft in kept})
    pair_ids = {name: number for number, name in enumerate(names)}
    utterances = tuple(
        Utterance(
            utterance_id=f"{draft.source}/{draft.name}/{voice}",
            audio=path,
            image=draft.drawing(IMAGES).path,
            pair_id=pair_ids[draft.captions[0]],
            text=draft.captions[0],
            caption=draft.captions[0],
            split=TRAIN,
            speaker=voice,
            synthetic=True,
            duration=readings[path].duration,
            words=readings[path].words,
        )
        for draft, voice, path in plan
        if not readings[path].fault
    )
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    unread = sum(bool(reading.fault) for reading in readings.values())
    note = (
        f"{len(kept)} named pictures ({versions}) in {len(utterances)} readings; "
        f"left out {sum(bool(r.fault) for r in made)} that cannot be drawn, "
        f"{sum(r.blank for r in made)} that are blank, {int(copied.sum())} that look like a "
        f"stamp that is held out, {unread} readings that cannot be made"
    )
    Manifest(
        corpus="named_pictures",
        root=folder,
        utterances=utterances,
        train_split=TRAIN,
        dev_splits=(),
        test_splits=(),
        mini=True,
        notes=(note,),
    ).save(folder / MANIFEST)


def readers(name: str) -> tuple[str, ...]:
    """Choose the voices, keys of `READING`, that read a name; the same at every run."""
    random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    familiar = [voice for voice in VOICES if voice not in HELD_OUT_VOICES]
    chosen = [
        *random.choice(familiar, FAMILIAR, replace=False),
        *random.choice([*OTHER_VOICES], OTHERS, replace=False),
    ]
    return tuple(map(str, chosen))
