"""The synthetic speakers of the mini sets, and files of what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile
import soxr

from ...data.audio import read_audio
from ...errors import AudioError
from ...structures import SAMPLE_RATE
from ..stamps.prepare import Made, Progress, Work, run
from ..synthesis import Voice, read_with

FLITE = {"Slt": "slt", "Rms": "rms", "Awb": "awb", "Kal": "kal16"}
ESPEAK = (
    "Alex",
    "Alicia",
    "Andrea",
    "Annie",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "Denis",
    "edward",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "Gene",
    "gustave",
    "Henrique",
    "Hugo",
    "ian",
    "iven",
    "Jacky",
    "john",
    "klatt2",
    "Lee",
    "linda",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "marcelo",
    "Mario",
    "Michael",
    "miguel",
    "norbert",
    "pablo",
    "paul",
    "quincy",
    "Reed",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "Storm",
    "travis",
    "victor",
    "zac",
)
"""espeak-ng's variants of a voice: formants, breath and pitch; no robots, no whispers."""
ACCENTS = ("en-us", "en-gb-x-rp", "en-us", "en-gb-scotland", "en-us", "en-029", "en-us-nyc")


def _espeak(place: int, variant: str) -> Voice:
    """Give a variant an accent, a rate and a pitch of its own; neighbours differ in all three."""
    accent = ACCENTS[place % len(ACCENTS)]
    rate = 140 + 7 * (place * 4 % 9)  # words per minute
    return Voice(
        engine="espeak", name=f"{accent}+{variant}", rate=rate, pitch=35 + 6 * (place * 3 % 7)
    )


SPEAKERS: Mapping[str, Voice] = MappingProxyType(
    {name: Voice(engine="flite", name=voice) for name, voice in FLITE.items()}
    | {name.capitalize(): _espeak(place, name) for place, name in enumerate(ESPEAK)}
)
"""Names of letters and digits, none the beginning of another, as s3prl's SNIPS reader needs."""

AMERICAN = tuple(name for name, voice in SPEAKERS.items() if voice.name.startswith("en-us+"))
"""espeak-ng's speakers whose sounds are those of the CMU dictionary."""

VALID_SPEAKERS = ("Awb", "Boris", "F4", "Hugo", "M2", "Steph")
TEST_SPEAKERS = ("Rms", "Andrea", "David", "F2", "Gustave", "M7", "Michael", "Paul")
SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": tuple(n for n in SPEAKERS if n not in (*VALID_SPEAKERS, *TEST_SPEAKERS)),
        "valid": VALID_SPEAKERS,
        "test": TEST_SPEAKERS,
    }
)
"""Speakers of the sets that have synthetic ones only; in valid and test a CMU voice each."""


@dataclass(frozen=True)
class Saying:
    """A text that a speaker reads into a file."""

    path: str
    """Relative to the mini set; .wav or .flac."""
    speaker: str
    text: str


def say(
    sayings: Sequence[Saying], root: Path, libraries: tuple[Path, ...], progress: Progress
) -> list[float]:
    """Read texts aloud into 16 kHz mono files, on all cores.

    Args:
        sayings: what is said; each path once.
        root: the mini set's folder.
        libraries: what `synthesis.fetch_libraries` gives.
        progress: told how far it is.

    Returns:
        Seconds of each recording, in order.

    Raises:
        CorpusError: a synthesiser failed.
    """
    works = [
        Work(root / s.path, text=s.text, voice=s.speaker, libraries=libraries) for s in sayings
    ]
    return [made.duration for made in run(_reading, works, "reading sentences aloud", progress)]


def convert(sources: Mapping[str, Path], root: Path, progress: Progress) -> list[float]:
    """Convert recordings to 16 kHz mono files, on all cores.

    Args:
        sources: recording by path relative to `root`.

    Returns:
        Seconds of each, in order.

    Raises:
        AudioError: a recording cannot be read.
    """
    works = [Work(root / path, source=source) for path, source in sources.items()]
    made = run(_recording, works, "converting recordings", progress)
    for one in made:
        if one.fault:
            raise AudioError(one.fault)
    return [one.duration for one in made]


def write_audio(path: Path, samples: np.ndarray) -> float:
    """Write 16 kHz mono of 16 bits in the format that the file's suffix names; gives seconds.

    Args:
        path: .wav or .flac; its folder is made.
        samples: (L,) in [-1, 1].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE, subtype="PCM_16")
    return len(pcm) / SAMPLE_RATE


def _reading(work: Work) -> Made:
    read = read_with(work.text, SPEAKERS[work.voice], work.libraries)
    samples = read.samples.astype(np.float32) / 32768
    if read.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, read.sample_rate, SAMPLE_RATE, quality="HQ")
    return Made(write_audio(work.target, samples))


def _recording(work: Work) -> Made:
    assert work.source is not None
    try:
        samples = read_audio(work.source)
    except AudioError as error:
        return Made(fault=str(error))
    return Made(write_audio(work.target, samples))
