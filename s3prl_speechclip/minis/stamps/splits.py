"""The fixed splits of the stamps, drawn by hashing names: no random numbers, no leak.

Stamps that share a caption, a recording or a picture make one component. Recordings and pictures
are compared as decoded, since some files differ and hold the same samples. A component is one
answer in retrieval, and lies whole on one side of the line between seen and unseen images. Most
components are single stamps; the largest has six (six drawings captioned "A flower.").

- `test_image`, `dev_image`: components never seen in training, with all their recordings.
- `test_speaker`, `dev_speaker`: components seen in training, read by a synthetic voice that is
  never heard in training, or by a person in a language that is never heard with that component.
- `train`: the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from .inventory import Stamp

TRAIN = "train"
DEV_SPLITS = ("dev_speaker", "dev_image")
TEST_SPLITS = ("test_speaker", "test_image")

TEST_IMAGE_SHARE = 0.15
DEV_IMAGE_SHARE = 0.08
TEST_LANGUAGES = 3  # a component with so many languages gives one to test_speaker
DEV_LANGUAGES = 5  # with so many, another to dev_speaker

HELD_OUT_VOICES: Mapping[str, str] = MappingProxyType(
    {
        "flite-rms": "test_speaker",
        "espeak-en-gb-scotland+f2": "test_speaker",
        "espeak-en-us-nyc+m7": "dev_speaker",
    }
)


def components(stamps: Sequence[Stamp]) -> tuple[tuple[Stamp, ...], ...]:
    """Group stamps that share a caption, a recording or a picture, directly or through others.

    Args:
        stamps: with `sound` and `pixels`.

    Returns:
        The components, and the stamps in each, by name.
    """
    parent = {stamp.name: stamp.name for stamp in stamps}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for stamp in stamps:
        for key in _keys(stamp):
            one, other = sorted((root(stamp.name), root(first.setdefault(key, stamp.name))))
            parent[other] = one
    grouped: dict[str, list[Stamp]] = {}
    for stamp in sorted(stamps, key=lambda stamp: stamp.name):
        grouped.setdefault(root(stamp.name), []).append(stamp)
    return tuple(tuple(grouped[name]) for name in sorted(grouped))


def normalised(caption: str) -> str:
    """Write a caption without case and punctuation."""
    return " ".join(re.sub(r"[^\w\s]", " ", caption.casefold()).split())


def image_split(component: Sequence[Stamp]) -> str:
    """Say whether a component's images are seen in training: `train`, or an image split."""
    place = _fraction(f"image/{component[0].name}")
    if place < TEST_IMAGE_SHARE:
        return "test_image"
    if place < TEST_IMAGE_SHARE + DEV_IMAGE_SHARE:
        return "dev_image"
    return TRAIN


def held_out_languages(component: Sequence[Stamp]) -> dict[str, str]:
    """Choose the human languages of a training component that training never hears with it.

    A language is left in training where one of its recordings is, sample for sample, also a
    recording of another language: held out, it would have been heard.

    Returns:
        Split by language, for the languages held out.
    """
    sounds: dict[str, set[str]] = {}
    for stamp in component:
        for recording in stamp.recordings:
            sounds.setdefault(recording.language, set()).add(recording.sound)
    free = [
        language
        for language, own in sounds.items()
        if not any(own & other for name, other in sounds.items() if name != language)
    ]
    free.sort(key=lambda language: _fraction(f"speaker/{component[0].name}/{language}"))
    chosen = {}
    if len(sounds) >= TEST_LANGUAGES and free:
        chosen[free[0]] = "test_speaker"
    if len(sounds) >= DEV_LANGUAGES and len(free) > 1:
        chosen[free[1]] = "dev_speaker"
    return chosen


def _keys(stamp: Stamp) -> Iterable[str]:
    yield f"caption/{normalised(stamp.caption)}"
    yield f"image/{stamp.pixels}"
    for recording in stamp.recordings:
        yield f"recording/{recording.sound}"


def _fraction(name: str) -> float:
    """Place a name in [0, 1)."""
    return int(hashlib.sha256(f"stamps/{name}".encode()).hexdigest()[:13], 16) / 16**13
