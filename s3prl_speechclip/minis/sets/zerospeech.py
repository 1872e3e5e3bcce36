"""ZeroSpeech 2021's semantic set in miniature, in its layout.

    semantic/{dev,test}/gold.csv         type,filename,word,voice
    semantic/{dev,test}/pairs.csv        type,dataset,word_1,word_2,similarity,relatedness
    semantic/{dev,test}/<type>/<filename>.wav

The synthetic part is the words of WordSim-353 and SimLex-999 in synthetic voices. Of the recorded
words that Debian's packages hold, hardly two are rated there; so the natural part has WordNet's
path similarity in the place of people's scores, and pairs words of one package only, because a
package has its own speaker and sound. No word is in both `dev` and `test`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .. import sources
from ..making import SYNTHETIC as SYNTHETIC_SPEAKERS
from ..making import Built, Saying, record
from ..synthesis.voices import SPEAKERS

NATURAL, SYNTHETIC = "librispeech", "synthetic"
SPLITS = ("dev", "test")
VOICES = ("Slt", "Rms", "Andrea", "David")
"""Two of flite and two of espeak-ng, two women and two men."""
ARTICLE = re.compile(r"^(a|an|the) ")
PHONETIC = "phonetic"
"""Folder of telephone prompts whose words stand for letters."""
RATED = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
"""Lists rated by people, in gensim's test data: SimLex-999 has no licence to pass it on by."""
RECORDED = (sources.KTUBERLING, sources.STAMPS, sources.ASTERISK)
"""Packages whose words are paired; the lists lie in `assets/zerospeech/`, whose README explains."""
RELATED = "wordsim353"
"""The list whose raters were asked for relatedness; the others' scores are similarities."""


class ScoredPair(NamedTuple):
    """Two words and a score; the higher, the closer."""

    word_1: str
    word_2: str
    score: float


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    found = recorded_words(archive)
    sounds: dict[str, Saying | Path] = {}
    notes = []
    for split in SPLITS:
        folder, gold = f"semantic/{split}", []
        rated = {name: within(split, scored_pairs(name)) for name in RATED}
        natural = {
            name: [
                p for p in within(split, scored_pairs(name)) if {p.word_1, p.word_2} <= own.keys()
            ]
            for name, own in found.items()
        }
        for word in _words(p for some in rated.values() for p in some):
            for voice in VOICES:
                name = f"{voice.lower()}-{word}"
                sounds[f"{folder}/{SYNTHETIC}/{name}.wav"] = Saying(SPEAKERS[voice], word)
                gold.append((SYNTHETIC, name, word, voice))
        said = len(gold)
        for package, some in natural.items():
            for word in _words(some):
                for number, source in enumerate(found[package][word]):
                    name = f"{package}-{word}-{number}"
                    sounds[f"{folder}/{NATURAL}/{name}.wav"] = source
                    gold.append((NATURAL, name, word, ""))
        pairs = [
            (kind, name, p.word_1, p.word_2, *(("", score) if name == RELATED else (score, "")))
            for kind, lists in ((SYNTHETIC, rated), (NATURAL, natural))
            for name, some in lists.items()
            for p in some
            for score in (f"{p.score:g}",)
        ]
        (root / folder).mkdir(parents=True)
        for name, columns, rows in (
            ("gold", "type filename word voice", gold),
            ("pairs", "type dataset word_1 word_2 similarity relatedness", pairs),
        ):
            table = pd.DataFrame(rows, columns=columns.split())
            table.to_csv(root / folder / f"{name}.csv", index=False)
        counts = [
            " + ".join(f"{len(some)} ({name})" for name, some in lists.items())
            for lists in (natural, rated)
        ]
        notes.append(
            f"{split}: {counts[0]} natural pairs of {len(gold) - said} recordings, "
            f"{counts[1]} synthetic pairs of {said} recordings"
        )
    record(sounds, root, archive)
    return Built(
        {},
        (
            *notes,
            "natural: WordNet 3.0's path similarity stands for people's scores; related numbers "
            "also sound alike, and who trains on stamps has heard the stamps",
            "synthetic: WordSim-353 (relatedness) and SimLex-999 (similarity), rated by people",
            f"voices: {', '.join(VOICES)}; {SYNTHETIC_SPEAKERS}",
            *sources.licences(RECORDED),
        ),
    )


def recorded_words(archive: Path | None) -> dict[str, dict[str, list[Path]]]:
    """Return the recordings that hold one English word, by package and word.

    An article before it stays in the recording: stamps are called `a badger`.
    """
    found: dict[str, dict[str, list[Path]]] = {package: {} for package in RECORDED}
    for recordings in (
        sources.named_things(archive),
        sources.stamps_in_english(archive),
        sources.clear_prompts(archive),
    ):
        for one in recordings:
            if one.path.parent.name != PHONETIC:
                word = ARTICLE.sub("", one.words)
                found[one.package].setdefault(word, []).append(one.path)
    return found


def scored_pairs(name: str) -> list[ScoredPair]:
    """Read a list of pairs; words in lower case, a repeated pair once."""
    if name in RATED:  # gensim itself is not imported
        path = Path(str(distribution("gensim").locate_file(f"gensim/test/test_data/{RATED[name]}")))
        table = pd.read_csv(path, sep="\t", comment="#", header=None, keep_default_na=False)
    else:
        path = Path(__file__).parents[2] / f"assets/zerospeech/{name}.csv"
        table = pd.read_csv(path, keep_default_na=False)
    found: dict[frozenset[str], ScoredPair] = {}
    for one, other, score in table.itertuples(index=False):
        pair = ScoredPair(one.lower(), other.lower(), float(score))
        found.setdefault(frozenset((pair.word_1, pair.word_2)), pair)
    return list(found.values())


def within(split: str, pairs: Iterable[ScoredPair]) -> list[ScoredPair]:
    """Return the pairs whose words are both in a split, by the words alone: half are in `dev`."""

    def split_of(word: str) -> str:
        return SPLITS[hashlib.sha256(f"zerospeech/{word}".encode()).digest()[0] % 2]

    return [p for p in pairs if split_of(p.word_1) == split_of(p.word_2) == split]


def _words(pairs: Iterable[ScoredPair]) -> list[str]:
    return sorted({word for pair in pairs for word in (pair.word_1, pair.word_2)})
