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

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from ...data.manifest import MANIFEST, Manifest, Utterance
from ...errors import CorpusError
from ...hashing import file_hash
from .. import debian
from ..making import Drawing, Made, Saying, draw, file_name, fraction, groups, record
from ..sources import STAMPS, Stamp, read_stamps
from ..synthesis.voices import HELD_OUT_VOICES, VOICES

logger = logging.getLogger(__name__)

VERSION = "2022.06.04-1"
"""The package's version that published figures are for."""

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


def make(root: Path, archive: Path | None) -> None:
    """Fill a folder with the corpus."""
    (package,) = debian.packages([STAMPS], archive)
    if package.version != VERSION:
        logger.warning(
            "%s is version %s; figures are published for %s, and splits may differ",
            STAMPS,
            package.version,
            VERSION,
        )
    stamps, left_out = read_stamps(package)
    drawings = [Drawing(_image(s), s.image, side=DRAWING_SIDE, shrink=False) for s in stamps]
    images = draw(drawings, root)
    for image in images:
        if image.fault:
            raise CorpusError(f"{image.fault.partition(';')[0]}; fetch '{STAMPS}' again")
    # Slow voices first, so that no core waits for another at the end.
    sounds: dict[str, Saying | Path] = {
        _synthetic_audio(name, s.caption): Saying(voice, s.caption)
        for name, voice in VOICES.items()
        for s in stamps
    }
    sounds |= {_human_audio(r.path): r.path for s in stamps for r in s.recordings}
    made = {drawing.path: image for drawing, image in zip(drawings, images, strict=True)}
    made |= record(sounds, root, archive)
    components = _components(stamps, made)
    Manifest(
        corpus="stamps",
        root=root,
        utterances=tuple(_utterances(components, made)),
        train_split=TRAIN,
        dev_splits=DEV_SPLITS,
        test_splits=TEST_SPLITS,
        mini=True,
        notes=(*_notes(package.version, components, made), *left_out),
    ).save(root / MANIFEST)


def _components(stamps: Sequence[Stamp], made: Mapping[str, Made]) -> list[list[Stamp]]:
    """Group stamps that share a caption, a recording or a picture, directly or through others."""
    keys = [
        (
            f"caption/{normalised(stamp.caption)}",
            f"image/{made[_image(stamp)].content}",
            *(f"recording/{made[_human_audio(r.path)].content}" for r in stamp.recordings),
        )
        for stamp in stamps
    ]
    grouped: dict[int, list[Stamp]] = {}
    for stamp, group in zip(stamps, groups(keys), strict=True):
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
    """Choose the people of a training component who are held out from training, with splits.

    A language is left in training where one of its recordings is, sample for sample, also a
    recording of another language: training would contain it.
    """
    sounds: dict[str, set[str]] = {}
    for stamp in component:
        for recording in stamp.recordings:
            own = sounds.setdefault(recording.language, set())
            own.add(made[_human_audio(recording.path)].content)
    free = [
        language
        for language, own in sounds.items()
        if not any(own & other for name, other in sounds.items() if name != language)
    ]
    free.sort(key=lambda language: fraction(f"stamps/speaker/{component[0].name}/{language}"))
    chosen = {}
    if len(sounds) >= TEST_LANGUAGES and free:
        chosen[f"human-{free[0]}"] = "test_speaker"
    if len(sounds) >= DEV_LANGUAGES and len(free) > 1:
        chosen[f"human-{free[1]}"] = "dev_speaker"
    return chosen


def _utterances(
    components: Sequence[Sequence[Stamp]], made: Mapping[str, Made]
) -> Iterator[Utterance]:
    for pair_id, component in enumerate(components):
        split = _image_split(component)
        languages = _held_out_languages(component, made)
        held_out = {**languages, **HELD_OUT_VOICES} if split == TRAIN else {}
        for stamp in component:
            human = [
                (f"human-{r.language}", r.language, r.text, _human_audio(r.path))
                for r in stamp.recordings
            ]
            voices = [(v, "en", stamp.caption, _synthetic_audio(v, stamp.caption)) for v in VOICES]
            for speaker, language, text, audio in human + voices:
                yield Utterance(
                    utterance_id=f"{stamp.name}/{speaker}",
                    audio=audio,
                    image=_image(stamp),
                    pair_id=pair_id,
                    text=text,
                    caption=stamp.caption,
                    split=held_out.get(speaker, split),
                    speaker=speaker,
                    language=language,
                    synthetic=speaker in VOICES,
                    duration=made[audio].duration,
                    words=made[audio].words,
                )


def _notes(
    version: str, components: Sequence[Sequence[Stamp]], made: Mapping[str, Made]
) -> tuple[str, ...]:
    stamps = [stamp for component in components for stamp in component]
    recordings = [recording for stamp in stamps for recording in stamp.recordings]
    kinds = Counter(stamp.image.suffix for stamp in stamps)
    unwritten = sum(not recording.text for recording in recordings)
    sounds = {made[_human_audio(recording.path)].content for recording in recordings}
    blank = [path for path, one in made.items() if one.blank]
    return (
        f"{STAMPS} {version}: {len(stamps)} stamps ({kinds['.png']} photographs or "
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


@cache
def _human_audio(path: Path) -> str:
    """Return where a recording will lie: by its content, which several stamps may share."""
    digest = file_hash(path)
    return f"audio/human/{digest[:2]}/{digest[:20]}.wav"


def _synthetic_audio(voice: str, caption: str) -> str:
    return f"audio/{voice}/{file_name(caption)}.wav"
