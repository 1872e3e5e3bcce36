"""The default corpus, `stamps`: drawings and photographs, described by people in 13 languages.

Debian's package tuxpaint-stamps-default is fetched at the first use, its pictures and recordings
are prepared once in the cache, and each English caption is read by ten synthetic voices with the
times of its words. People and voices stay apart in the manifest: `speaker` is `human-xx` or the
voice's name. How the splits are drawn is written in `splits`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...data.cache import cache_home, is_prepared, made_once
from ...data.manifest import Manifest, Utterance
from ...errors import CorpusError
from .. import debian
from ..synthesis import VOICES, flite
from . import prepare, splits
from .inventory import STAMPS, Inventory, Recording, Stamp, take
from .progress import Bars

logger = logging.getLogger(__name__)

PACKAGE = "tuxpaint-stamps-default"
VERSION = "2022.06.04-1"
DIGEST = "dad48bdfb9c55efca10a38e38c922fee6b83308b6be1f0e50bb90b945e16c198"
"""SHA-256 of the version's content, as `inventory` takes it."""

PREPARED = 1  # counts up whenever the prepared files or the splits change
MANIFEST = "manifest.jsonl"


def read(
    root: Path | None = None,
    archive: Path | None = None,
    skip_broken: bool = False,
    progress: prepare.Progress | None = None,
) -> Manifest:
    """Give the corpus; fetch and prepare it at the first use, some 100 s on two cores.

    Args:
        root: the folder of the prepared corpus, by default one in the cache.
        archive: the package as a .deb file, or a folder of .deb files, for machines without
            apt-get; the packages of `synthesis.flite.PACKAGES` are looked for beside it.
        skip_broken: leave out what cannot be read and count it in the manifest's notes.
        progress: told what is being done; by default a bar on standard error.

    Raises:
        CorpusError: the package cannot be had, a file of it is broken, the disk is full.
    """
    root = root or cache_home() / "stamps" / f"v{PREPARED}"
    if not is_prepared(root, MANIFEST):
        package, *others = debian.packages([PACKAGE, *flite.PACKAGES], archive)
        libraries = tuple(other.root for other in others)
        made_once(
            root,
            lambda folder: _prepare(package, libraries, folder, skip_broken, progress or Bars()),
        )
    return Manifest.load(root / MANIFEST)


def _prepare(
    package: debian.Package,
    libraries: tuple[Path, ...],
    root: Path,
    skip_broken: bool,
    progress: prepare.Progress,
) -> None:
    """Fill the corpus folder."""
    inventory = take(package.root / STAMPS)
    _verify(package, inventory)
    faults = list(inventory.broken)
    _stop_at(faults, skip_broken)
    human, images, readings = _works(inventory, libraries, root)
    made: dict[Path, prepare.Made] = {}
    for make, works, what in (
        (prepare.picture, images, "preparing pictures"),
        (prepare.recording, human, "preparing recordings"),
        (prepare.reading, readings, "reading captions aloud"),
    ):
        results = prepare.run(make, works, what, progress)
        made.update({w.target: result for w, result in zip(works, results, strict=True)})
        faults += [result.fault for result in results if result.fault]
        _stop_at(faults, skip_broken)
    good = {path: result for path, result in made.items() if not result.fault}
    inventory = _as_prepared(inventory, root, good)
    blank = [str(path.relative_to(root)) for path, result in made.items() if result.blank]
    utterances = tuple(_utterances(inventory, root, good))
    if not utterances:
        raise CorpusError(f"no file of '{PACKAGE}' can be read; fetch it again")
    Manifest(
        corpus="stamps",
        root=root,
        utterances=utterances,
        train_split=splits.TRAIN,
        dev_splits=splits.DEV_SPLITS,
        test_splits=splits.TEST_SPLITS,
        mini=True,
        notes=_notes(package, inventory, blank, faults),
    ).save(root / MANIFEST)


def _verify(package: debian.Package, inventory: Inventory) -> None:
    if package.version != VERSION:
        logger.warning(
            "%s is version %s; figures are published for %s, and splits may differ",
            PACKAGE,
            package.version,
            VERSION,
        )
    elif inventory.digest != DIGEST:
        logger.warning(
            "%s %s has the content %s, expected %s: files were changed, and figures may differ",
            PACKAGE,
            package.version,
            inventory.digest,
            DIGEST,
        )


def _stop_at(faults: list[str], skip_broken: bool) -> None:
    if faults and not skip_broken:
        raise CorpusError(
            f"{len(faults)} file(s) of '{PACKAGE}' are broken, the first: {faults[0]}; fetch the "
            "package again, or leave them out with --skip-broken"
        )


def _works(
    inventory: Inventory, libraries: tuple[Path, ...], root: Path
) -> tuple[list[prepare.Work], list[prepare.Work], list[prepare.Work]]:
    """List the files to make: human recordings, pictures, readings."""
    human, images, readings = [], [], []
    for stamp in inventory.stamps:
        images.append(prepare.Work(root / _image(stamp), inventory.folder / stamp.image))
        for recording in stamp.recordings:
            source = inventory.folder / recording.path
            human.append(prepare.Work(root / _human_audio(recording), source))
        for voice in VOICES:
            target = root / _synthetic_audio(voice, stamp.caption)
            readings.append(
                prepare.Work(target, text=stamp.caption, voice=voice, libraries=libraries)
            )
    # Slow voices first, so that no core waits for another at the end.
    slow_first = sorted(prepare.used(readings), key=lambda work: list(VOICES).index(work.voice))
    return prepare.used(human), images, slow_first


def _as_prepared(inventory: Inventory, root: Path, made: dict[Path, prepare.Made]) -> Inventory:
    """Keep the stamps and recordings that could be prepared, and say what they hold."""
    stamps = []
    for stamp in inventory.stamps:
        picture = made.get(root / _image(stamp))
        sounds = [(r, made.get(root / _human_audio(r))) for r in stamp.recordings]
        recordings = tuple(replace(r, sound=sound.content) for r, sound in sounds if sound)
        if picture:
            stamps.append(replace(stamp, pixels=picture.content, recordings=recordings))
    return replace(inventory, stamps=tuple(stamps))


def _utterances(
    inventory: Inventory, root: Path, made: dict[Path, prepare.Made]
) -> Iterator[Utterance]:
    for pair_id, component in enumerate(splits.components(inventory.stamps)):
        split = splits.image_split(component)
        seen = split == splits.TRAIN
        languages = splits.held_out_languages(component) if seen else {}
        voices = splits.HELD_OUT_VOICES if seen else {}
        for stamp in component:
            for recording in stamp.recordings:
                audio = _human_audio(recording)
                yield Utterance(
                    utterance_id=f"{stamp.name}/human-{recording.language}",
                    audio=audio,
                    image=_image(stamp),
                    pair_id=pair_id,
                    text=recording.text,
                    caption=stamp.caption,
                    split=languages.get(recording.language, split),
                    speaker=f"human-{recording.language}",
                    language=recording.language,
                    duration=made[root / audio].duration,
                )
            for voice in VOICES:
                audio = _synthetic_audio(voice, stamp.caption)
                yield Utterance(
                    utterance_id=f"{stamp.name}/{voice}",
                    audio=audio,
                    image=_image(stamp),
                    pair_id=pair_id,
                    text=stamp.caption,
                    caption=stamp.caption,
                    split=voices.get(voice, split),
                    speaker=voice,
                    synthetic=True,
                    duration=made[root / audio].duration,
                    words=made[root / audio].words,
                )


def _notes(
    package: debian.Package, inventory: Inventory, blank: list[str], faults: list[str]
) -> tuple[str, ...]:
    stamps = inventory.stamps
    recordings = [recording for stamp in stamps for recording in stamp.recordings]
    sizes = Counter(len(component) for component in splits.components(stamps))
    kinds = Counter(Path(stamp.image).suffix for stamp in stamps)
    unwritten = sum(not recording.text for recording in recordings)
    return (
        f"{PACKAGE} {package.version}: {len(stamps)} stamps ({kinds['.png']} photographs or "
        f"drawings in pixels, {kinds['.svg']} drawings rendered from SVG)",
        f"{len(recordings)} human recordings, {len({r.sound for r in recordings})} distinct, in "
        f"{len({r.language for r in recordings})} languages; {unwritten} without a written text",
        f"{len({stamp.caption for stamp in stamps})} distinct English captions, each read by "
        f"{len(VOICES)} synthetic voices",
        f"{len(stamps)} stamps are {sum(sizes.values())} answers in retrieval: stamps that share "
        f"a caption, a recording or a picture are one; largest: {max(sizes)} stamps",
        f"{len(blank)} picture(s) blank on white: {', '.join(blank) or 'none'}",
        *inventory.notes,
        *(f"left out as broken: {fault}" for fault in faults),
    )


def _image(stamp: Stamp) -> str:
    return f"images/{stamp.name}.png"


def _human_audio(recording: Recording) -> str:
    return f"audio/human/{recording.file_hash[:2]}/{recording.file_hash[:20]}.wav"


def _synthetic_audio(voice: str, caption: str) -> str:
    return f"audio/{voice}/{prepare.file_name(caption)}.wav"
