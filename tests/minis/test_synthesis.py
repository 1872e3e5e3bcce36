"""Synthetic voices: the same at every run, with words that match the text and its times."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis.sources import Stamp
from s3prl_speechclip.minis.synthesis import Reading, read_aloud, spoken, words_of
from s3prl_speechclip.minis.synthesis.voices import VOICES

HARD = [
    "A calculator.  6x7=42",
    "An F-22 Raptor.",
    'A wooden toy from Germany called a "Räuchermännchen".',
    "Saturn—the second largest planet in our solar system—and the one with the most rings.",
    "– Because a brain is a terrible thing to waste…",
    "“Give Way” means you have to let other people go first.",
    "Pedestrian Crossing (“PED XING”).",
    "It's a cep, or they are two ceps?",
]

SAY = """
import sys, hashlib
from pathlib import Path
from s3prl_speechclip.minis.synthesis import read_aloud
from s3prl_speechclip.minis.synthesis.voices import VOICES
libraries = tuple(map(Path, sys.argv[1:]))
for voice in VOICES:
    print(hashlib.sha256(read_aloud("A red apple.", VOICES[voice], libraries).samples).hexdigest())
"""


def assert_aligned(reading: Reading, text: str) -> None:
    expected = " ".join(word for _, word in words_of(spoken(text)))
    assert " ".join(word.text for word in reading.words) == expected
    for marks in (reading.words, reading.phones):
        times = [time for mark in marks for time in (mark.start, mark.end)]
        assert times == sorted(times)
        assert times[0] >= 0 and times[-1] <= len(reading.samples) / reading.sample_rate
        assert all(mark.end > mark.start for mark in marks)


@pytest.mark.parametrize("voice", VOICES)
def test_captions_are_aligned(voice: str, libraries: tuple[Path, ...], stamps: list[Stamp]) -> None:
    """Monotone times inside the recording, the caption's words in order; guards against words lost
    to punctuation. Every caption is read by one voice of each engine."""
    all_of_them = voice in ("flite-kal16", "espeak-en-us")
    for text in {*HARD, *(stamp.caption for stamp in stamps if all_of_them)}:
        assert_aligned(read_aloud(text, VOICES[voice], libraries), text)


@pytest.mark.parametrize("voice", VOICES)
def test_a_text_sounds_the_same_whatever_was_read_before(
    voice: str, libraries: tuple[Path, ...]
) -> None:
    """Guards the corpus against the synthesisers' breath noise and oscillators."""
    first = read_aloud("A red apple.", VOICES[voice], libraries)
    other = read_aloud("The big brown bear runs.", VOICES[voice], libraries)
    again = read_aloud("A red apple.", VOICES[voice], libraries)
    assert np.array_equal(first.samples, again.samples)
    assert first.words == again.words and first.phones == again.phones
    assert len(other.samples) != len(first.samples)


def test_a_text_sounds_the_same_in_another_process(libraries: tuple[Path, ...]) -> None:
    """Guards two users' corpora against differing, and against a variant that is ignored."""
    command = [sys.executable, "-c", SAY, *map(str, libraries)]
    first = subprocess.check_output(command)
    time.sleep(1.1)  # espeak-ng's noise starts from the time in seconds
    assert subprocess.check_output(command) == first
    assert len(set(first.split())) == len(VOICES) == 10


def test_words_are_where_the_sound_is(libraries: tuple[Path, ...]) -> None:
    """Guards the times against another unit: pauses between sentences are quiet, words are not."""
    for voice in VOICES:
        reading = read_aloud("A dog. A cat.", VOICES[voice], libraries)
        energy = np.abs(reading.samples.astype(np.float64))
        dog = next(word for word in reading.words if word.text == "dog")
        after = next(word for word in reading.words if word.start >= dog.end)
        rate = reading.sample_rate
        third = (after.start - dog.end) / 3  # sounds fade at the edges of a pause
        pause = energy[int((dog.end + third) * rate) : int((after.start - third) * rate)]
        assert len(pause) > 0.03 * rate, voice
        assert energy[int(dog.start * rate) : int(dog.end * rate)].mean() > 5 * pause.mean(), voice


@pytest.mark.parametrize(
    ("text", "voice"), [("", "espeak-en-us"), ("…", "espeak-en-us"), ("яблоко", "flite-kal16")]
)
def test_what_cannot_be_read_is_named(text: str, voice: str, libraries: tuple[Path, ...]) -> None:
    """Guards against a silent recording."""
    with pytest.raises(CorpusError, match="no English word"):
        read_aloud(text, VOICES[voice], libraries)


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    """In a process of its own: this one has them loaded."""
    code = (
        "from pathlib import Path\n"
        "from s3prl_speechclip.minis.synthesis import read_aloud\n"
        "from s3prl_speechclip.minis.synthesis.voices import VOICES\n"
        f"read_aloud('a', VOICES['flite-slt'], (Path({str(tmp_path)!r}),))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "CorpusError: cannot load flite's 'lib" in last and "libflite1" in last


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_spoken_text_is_ascii_and_stays(text: str) -> None:
    """Guards flite, which drops other bytes, and the positions that espeak-ng counts."""
    plain = spoken(text)
    assert plain.isascii() and plain == " ".join(plain.split())
    assert spoken(plain) == plain
    for offset, word in words_of(plain):
        assert plain[offset : offset + len(word)] == word
