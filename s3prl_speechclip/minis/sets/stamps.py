"""The default corpus, `stamps`: drawings and photographs, described by people in 13 languages.

The pictures and recordings of Debian's package tuxpaint-stamps-default, and each English caption
read by ten synthetic voices with the times of its words. People and voices stay apart in the
manifest: `speaker` is `human-xx` or the voice's name.

The splits are drawn by hashing names: no random numbers, no leak. Stamps that share a caption, a
recording or a picture make one component. Recordings and pictures are compared as decoded, since
some files differ and hold the same samples. A component is one answer in retrieval, and lies whole
on one side of the line between seen and unseen images. Most components are single stamps; the
largest has six (six drawings captioned "A flower.").

- `test_image`, `dev_image`: components never seen in training, with all their recordings.
- `test_speaker`, `dev_speaker`: components seen in training, read by a synthetic voice that is
  absent from training, or by a person in a language absent from that component's training.
- `train`: the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...data.manifest import Manifest, Utterance
from ...errors import CorpusError
from .. import debian
from ..making import Drawing, Made, Saying, convert, draw, file_name, fraction, groups, say
from ..stamps_package import (
    PACKAGE,
    HumanRecording,
    Stamp,
    read_inventory,
    warn_of_changes,
)
from ..synthesis import fetch_libraries
from ..synthesis.voices import HELD_OUT_VOICES, VOICES

TRAIN = "train"
DEV_SPLITS = ("dev_speaker", "dev_image")
TEST_SPLITS = ("test_speaker", "test_image")
UNSEEN = ("dev_image", "test_image")
"""The splits whose images are never seen in training."""

TEST_IMAGE_SHARE = 0.15
DEV_IMAGE_SHARE = 0.08
TEST_LANGUAGES = 3  # a component with so many languages gives one to test_speaker
DEV_LANGUAGES = 5  # with so many, another to dev_speaker
DRAWING_SIDE = 400  # pixels, the longer side of a rendered drawing, that of a large photograph


def make(root: Path, archive: Path | None, skip_broken: bool) -> None:
    """Fill a folder with the corpus, in some 100 s on two cores."""
    (package,) = debian.packages([PACKAGE], archive)
    libraries = fetch_libraries(archive)
    inventory = read_inventory(package)
    warn_of_changes(package, inventory)
    faults = list(inventory.broken)

    def check(made: Iterable[Made]) -> None:
        faults.extend(one.fault for one in made if one.fault)
        if faults and not skip_broken:
            raise CorpusError(
                f"{len(faults)} file(s) of '{PACKAGE}' are broken, the first: {faults[0]}; fetch "
                "the package again, or leave them out with --skip-broken"
            )

    check(())
    drawings = [
        Drawing(_image(s), inventory.folder / s.image, side=DRAWING_SIDE, shrink=False)
        for s in inventory.stamps
    ]
    images = draw(drawings, root)
    check(images)
    recordings = {
        _human_audio(r): inventory.folder / r.path for s in inventory.stamps for r in s.recordings
    }
    human = convert(recordings, root, keep_faults=True)
    check(human.values())
    # Slow voices first, so that no core waits for another at the end.
    sayings = [
        Saying(_synthetic_audio(name, s.caption), voice, s.caption)
        for name, voice in VOICES.items()
        for s in inventory.stamps
    ]
    made = {drawing.path: image for drawing, image in zip(drawings, images, strict=True)} | human
    made |= say(sayings, root, libraries, "reading captions aloud")
    made = {path: one for path, one in made.items() if not one.fault}
    stamps = [
        replace(s, recordings=tuple(r for r in s.recordings if _human_audio(r) in made))
        for s in inventory.stamps
        if _image(s) in made
    ]
    components = _components(stamps, made)
    utterances = tuple(_utterances(components, made))
    if not utterances:
        raise CorpusError(f"no file of '{PACKAGE}' can be read; fetch it again")
    Manifest(
        corpus="stamps",
        root=root,
        utterances=utterances,
        train_split=TRAIN,
        dev_splits=DEV_SPLITS,
        test_splits=TEST_SPLITS,
        mini=True,
        notes=(
            *_notes(package.version, components, made),
            *inventory.notes,
            *(f"left out as broken: {fault}" for fault in faults),
        ),
    ).save(root / "manifest.jsonl")


def _components(stamps: Iterable[Stamp], made: Mapping[str, Made]) -> list[list[Stamp]]:
    """Group stamps that share a caption, a recording or a picture, directly or through others."""
    ordered = sorted(stamps, key=lambda stamp: stamp.name)
    keys = [
        (
            f"caption/{normalised(stamp.caption)}",
            f"image/{made[_image(stamp)].content}",
            *(f"recording/{made[_human_audio(r)].content}" for r in stamp.recordings),
        )
        for stamp in ordered
    ]
    grouped: dict[int, list[Stamp]] = {}
    for stamp, group in zip(ordered, groups(keys), strict=True):
        grouped.setdefault(group, []).append(stamp)
    return list(grouped.values())


def normalised(caption: str) -> str:
    """Return a caption without case and punctuation."""
    return " ".join(re.sub(r"[^\w\s]", " ", caption.casefold()).split())


def _image_split(component: Sequence[Stamp]) -> str:
    """Return `train` for a component whose images are seen in training, or its image split."""
    place = fraction(f"stamps/image/{component[0].name}")
    if place < TEST_IMAGE_SHARE:
        return "test_image"
    return "dev_image" if place < TEST_IMAGE_SHARE + DEV_IMAGE_SHARE else TRAIN


def _held_out_languages(component: Sequence[Stamp], made: Mapping[str, Made]) -> dict[str, str]:
    """Choose the languages of a training component that are held out from training, with splits.

    A language is left in training where one of its recordings is, sample for sample, also a
    recording of another language: training would contain it.
    """
    sounds: dict[str, set[str]] = {}
    for stamp in component:
        for recording in stamp.recordings:
            own = sounds.setdefault(recording.language, set())
            own.add(made[_human_audio(recording)].content)
    free = [
        language
        for language, own in sounds.items()
        if not any(own & other for name, other in sounds.items() if name != language)
    ]
    free.sort(key=lambda language: fraction(f"stamps/speaker/{component[0].name}/{language}"))
    chosen = {}
    if len(sounds) >= TEST_LANGUAGES and free:
        chosen[free[0]] = "test_speaker"
    if len(sounds) >= DEV_LANGUAGES and len(free) > 1:
        chosen[free[1]] = "dev_speaker"
    return chosen


def _utterances(
    components: Sequence[Sequence[Stamp]], made: Mapping[str, Made]
) -> Iterator[Utterance]:
    for pair_id, component in enumerate(components):
        split = _image_split(component)
        seen = split == TRAIN
        languages = _held_out_languages(component, made) if seen else {}
        voices = HELD_OUT_VOICES if seen else {}
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
                    duration=made[audio].duration,
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
                    duration=made[audio].duration,
                    words=made[audio].words,
                )


def _notes(
    version: str, components: Sequence[Sequence[Stamp]], made: Mapping[str, Made]
) -> tuple[str, ...]:
    stamps = [stamp for component in components for stamp in component]
    recordings = [recording for stamp in stamps for recording in stamp.recordings]
    kinds = Counter(Path(stamp.image).suffix for stamp in stamps)
    unwritten = sum(not recording.text for recording in recordings)
    sounds = {made[_human_audio(recording)].content for recording in recordings}
    blank = [path for path, one in made.items() if one.blank]
    return (
        f"{PACKAGE} {version}: {len(stamps)} stamps ({kinds['.png']} photographs or "
        f"drawings in pixels, {kinds['.svg']} drawings rendered from SVG)",
        f"{len(recordings)} human recordings, {len(sounds)} distinct, in "
        f"{len({r.language for r in recordings})} languages; {unwritten} without a written text",
        f"{len({stamp.caption for stamp in stamps})} distinct English captions, each read by "
        f"{len(VOICES)} synthetic voices",
        f"{len(stamps)} stamps are {len(components)} answers in retrieval: stamps that share "
        f"a caption, a recording or a picture are one; largest: {max(map(len, components))} stamps",
        f"{len(blank)} picture(s) blank on white: {', '.join(blank) or 'none'}",
    )


def _image(stamp: Stamp) -> str:
    return f"images/{stamp.name}.png"


def _human_audio(recording: HumanRecording) -> str:
    return f"audio/human/{recording.file_hash[:2]}/{recording.file_hash[:20]}.wav"


def _synthetic_audio(voice: str, caption: str) -> str:
    return f"audio/{voice}/{file_name(caption)}.wav"
