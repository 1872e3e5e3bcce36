"""Draw the pictures, read their names aloud and write the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...data.images import open_image
from ...data.manifest import Manifest, Utterance
from ...errors import CorpusError
from .. import debian, pictures
from ..pictures.draft import Draft, drawn
from ..pictures.fingerprint import copies, fingerprint
from ..stamps import prepare
from ..stamps.splits import TRAIN
from .readers import Work, readers, reading

CORPUS = "named_pictures"
MANIFEST = "manifest.jsonl"
SOURCES = ("emoji", "word_cards")


def build(
    folder: Path,
    held_out: Sequence[Path],
    libraries: tuple[Path, ...],
    archive: Path | None,
    progress: prepare.Progress,
) -> None:
    """Fill the corpus' folder.

    Args:
        folder: an empty one.
        held_out: pictures that none of the corpus may look like.
        libraries: what `synthesis.fetch_libraries` gives.
        archive: where packages are looked for first.
        progress: told what is being done.

    Raises:
        CorpusError: a package cannot be had or is not as expected, no name can be read.
    """
    found = {name: pictures.SOURCES[name] for name in SOURCES}
    names = sorted({name for source in found.values() for name in source.packages})
    packages = {package.name: package for package in debian.packages(names, archive)}
    roots = {name: package.root for name, package in packages.items()}
    drafts = [(name, d) for name, source in found.items() for d in source.read(roots)]
    works = [
        prepare.Work(folder / _image(source, draft), draft.source, draft.text)
        for source, draft in drafts
    ]
    made = prepare.run(drawn, works, "preparing named pictures", progress)
    shown = [
        (source, draft)
        for (source, draft), result in zip(drafts, made, strict=True)
        if not result.fault and not result.blank
    ]
    copied = _copies([folder / _image(*picture) for picture in shown], held_out)
    kept = [picture for picture, copy in zip(shown, copied, strict=True) if not copy]
    plan = [(picture, voice) for picture in kept for voice in readers(picture[1].captions[0])]
    readings = [
        Work(folder / _audio(draft, voice), draft.captions[0], voice, libraries)
        for (_, draft), voice in plan
    ]
    unique = list({work.target: work for work in readings}.values())
    results = prepare.run(reading, unique, "reading names aloud", progress)
    durations = {w.target: r.duration for w, r in zip(unique, results, strict=True) if not r.fault}
    pairs = _pairs([draft for _, draft in kept])
    utterances = tuple(
        Utterance(
            utterance_id=f"{source}/{draft.name}/{voice}",
            audio=_audio(draft, voice),
            image=_image(source, draft),
            pair_id=pairs[draft.captions[0]],
            text=draft.captions[0],
            caption=draft.captions[0],
            split=TRAIN,
            speaker=voice,
            synthetic=True,
            duration=durations[folder / _audio(draft, voice)],
        )
        for (source, draft), voice in plan
        if folder / _audio(draft, voice) in durations
    )
    if not utterances:
        raise CorpusError(f"no name of {' and '.join(SOURCES)} can be read aloud")
    versions = ", ".join(f"{p.name} {p.version}" for p in packages.values())
    Manifest(
        corpus=CORPUS,
        root=folder,
        utterances=utterances,
        train_split=TRAIN,
        dev_splits=(),
        test_splits=(),
        mini=True,
        notes=(
            f"{len(kept)} named pictures ({versions}) in {len(utterances)} readings; left out "
            f"{sum(bool(r.fault) for r in made)} that cannot be drawn, "
            f"{sum(r.blank for r in made)} that are blank, {int(copied.sum())} that look like a "
            f"stamp that is held out, {len(unique) - len(durations)} readings that cannot be made",
        ),
    ).save(folder / MANIFEST)


def _copies(images: Sequence[Path], held_out: Sequence[Path]) -> np.ndarray:
    return copies(
        np.stack([fingerprint(open_image(path)) for path in images]),
        np.stack([fingerprint(open_image(path)) for path in held_out]),
    )


def _pairs(drafts: Sequence[Draft]) -> Mapping[str, int]:
    """Number names: pictures of one name are one answer."""
    names = sorted({draft.captions[0] for draft in drafts})
    return {name: number for number, name in enumerate(names)}


def _image(source: str, draft: Draft) -> str:
    return f"images/{source}/{draft.name}.png"


def _audio(draft: Draft, voice: str) -> str:
    return f"audio/{voice}/{prepare.file_name(draft.captions[0])}.wav"
