"""Pairs of words with what is known of their meaning: rated by people, or placed in WordNet."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path

from ...data.corpora.zerospeech import SPLITS
from .. import debian

WORDNET = "wordnet-base"
"""Debian's package of WordNet 3.0's database."""
HYPERNYMS = ("@", "@i")
PAIRS_OF_A_DISTANCE = 30  # that are kept: else nearly all would be of words with nothing in common
RATED = {"wordsim353": "relatedness", "simlex999": "similarity"}
"""The lists, and what their raters were asked for."""


@dataclass(frozen=True)
class Rated:
    """Two words and a score; the higher, the closer."""

    word_1: str
    word_2: str
    score: float


def split_of(word: str) -> str:
    """Put half of all words in `dev`, the others in `test`, by the word alone."""
    return SPLITS[hashlib.sha256(f"zerospeech/{word}".encode()).digest()[0] % 2]


def within(split: str, pairs: Iterable[Rated]) -> list[Rated]:
    """Give the pairs whose words are both in a split."""
    return [p for p in pairs if split_of(p.word_1) == split_of(p.word_2) == split]


def rated_pairs(name: str) -> list[Rated]:
    """Read a list of `RATED`; words in lower case, a repeated pair once."""
    text = (resources.files("s3prl_speechclip") / f"assets/zerospeech/{name}.csv").read_text(
        encoding="utf-8"
    )
    found: dict[frozenset[str], Rated] = {}
    for row in csv.DictReader(text.splitlines()):
        pair = Rated(row["word_1"].lower(), row["word_2"].lower(), float(row["score"]))
        found.setdefault(frozenset((pair.word_1, pair.word_2)), pair)
    return list(found.values())


class WordNet:
    """WordNet's nouns and what they are kinds of."""

    def __init__(self, archive: Path | None = None) -> None:
        """Read the database.

        Args:
            archive: a .deb file or a folder of them, for machines without apt-get.

        Raises:
            CorpusError: the package cannot be had.
        """
        (package,) = debian.packages([WORDNET], archive)
        folder = package.root / "usr/share/wordnet"
        self._senses = {
            fields[0]: fields[-int(fields[2]) :] for fields in _records(folder / "index.noun")
        }
        self._kinds = {fields[0]: _hypernyms(fields) for fields in _records(folder / "data.noun")}

    def has(self, word: str) -> bool:
        """Say whether a word is a noun."""
        return word in self._senses

    def distance(self, a: str, b: str) -> float:
        """Count the steps between the closest senses of two nouns over what both are kinds of."""
        above_a, above_b = self._above(a), self._above(b)
        common = above_a.keys() & above_b.keys()
        return min((above_a[kind] + above_b[kind] for kind in common), default=math.inf)

    def _above(self, word: str) -> dict[str, int]:
        """Give all that a noun's senses are kinds of, with the fewest steps to it."""
        steps = dict.fromkeys(self._senses[word], 0)
        frontier = list(steps)
        while frontier:
            found = []
            for kind in frontier:
                for higher in self._kinds[kind]:
                    if higher not in steps:
                        steps[higher] = steps[kind] + 1
                        found.append(higher)
            frontier = found
        return steps

    def pairs(self, words: Iterable[str]) -> list[Rated]:
        """Pair nouns, scored by path similarity: 10 / (1 + steps between them).

        Of each distance no more than `PAIRS_OF_A_DISTANCE` pairs are kept, chosen by the words'
        hashes.
        """
        by_distance: dict[float, list[tuple[str, str]]] = {}
        for a, b in combinations(sorted(set(words)), 2):
            by_distance.setdefault(self.distance(a, b), []).append((a, b))
        kept = [
            Rated(a, b, round(10 / (1 + distance), 3))
            for distance, some in by_distance.items()
            for a, b in sorted(some, key=_hash)[:PAIRS_OF_A_DISTANCE]
        ]
        return sorted(kept, key=lambda pair: (pair.word_1, pair.word_2))


def _hash(pair: tuple[str, str]) -> str:
    return hashlib.sha256("/".join(pair).encode()).hexdigest()


def _records(path: Path) -> Iterable[list[str]]:
    with open(path, encoding="utf-8") as handle:
        for line in handle:
            if not line.startswith("  "):  # the licence
                yield line.partition(" | ")[0].split()


def _hypernyms(fields: Sequence[str]) -> tuple[str, ...]:
    """Give the senses above one: offset, file, kind, word count in hex, words, pointers."""
    first = 4 + 2 * int(fields[3], 16)
    pointers = fields[first + 1 : first + 1 + 4 * int(fields[first])]
    return tuple(
        offset
        for symbol, offset, part in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
        if symbol in HYPERNYMS and part == "n"
    )
