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

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from .. import debian, sources
from ..making import SYNTHETIC as SYNTHETIC_SPEAKERS
from ..making import Built, Saying, convert, say
from ..synthesis import fetch_libraries
from ..synthesis.voices import SPEAKERS

NATURAL, SYNTHETIC = "librispeech", "synthetic"
SPLITS = ("dev", "test")
VOICES = ("Slt", "Rms", "Andrea", "David")
"""Two of flite and two of espeak-ng, two women and two men."""
SHORTEST_WORD = 3  # letters; shorter ones are nouns of WordNet that nobody means, such as `at`
ARTICLE = re.compile(r"^(a|an|the) ")
NO_MEANING = ("phonetic",)
"""Folders of telephone prompts whose words stand for letters."""
WORDNET = "wordnet-base"
"""Debian's package of WordNet 3.0's database."""
HYPERNYMS = ("@", "@i")
PAIRS_OF_A_DISTANCE = 30  # that are kept: else nearly all would be of words with nothing in common
RATED = {"wordsim353": "relatedness", "simlex999": "similarity"}
"""Lists of word pairs, and what their raters were asked for."""


@dataclass(frozen=True)
class ScoredPair:
    """Two words and a score; the higher, the closer."""

    word_1: str
    word_2: str
    score: float


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    wordnet = WordNet(archive)
    natural = recorded_words(archive, wordnet)
    lists = {name: rated_pairs(name) for name in RATED}
    sayings: list[Saying] = []
    recordings: dict[str, Path] = {}
    notes = []
    for split in SPLITS:
        synthetic = {name: within(split, pairs) for name, pairs in lists.items()}
        spoken = {
            package: wordnet.pairs(word for word in words if split_of(word) == split)
            for package, words in natural.items()
        }
        folder, gold = f"semantic/{split}", []
        for word in _words(p for some in synthetic.values() for p in some):
            for voice in VOICES:
                name = f"{voice.lower()}-{word}"
                path = f"{folder}/{SYNTHETIC}/{name}.wav"
                sayings.append(Saying(path, SPEAKERS[voice], word))
                gold.append((SYNTHETIC, name, word, voice))
        said = len(gold)
        for package, some in spoken.items():
            for word in _words(some):
                for number, source in enumerate(natural[package][word]):
                    name = f"{package}-{word}-{number}"
                    recordings[f"{folder}/{NATURAL}/{name}.wav"] = source
                    gold.append((NATURAL, name, word, ""))
        _write_table(root / folder / "gold.csv", ("type", "filename", "word", "voice"), gold)
        _write_table(
            root / folder / "pairs.csv",
            ("type", "dataset", "word_1", "word_2", "similarity", "relatedness"),
            [
                (kind, name, p.word_1, p.word_2, *_scores(name, p))
                for kind, lists_of_kind in ((SYNTHETIC, synthetic), (NATURAL, spoken))
                for name, some in lists_of_kind.items()
                for p in some
            ],
        )
        counts = [
            " + ".join(f"{len(some)} ({name})" for name, some in pairs.items())
            for pairs in (spoken, synthetic)
        ]
        notes.append(
            f"{split}: {counts[0]} natural pairs of {len(gold) - said} recordings, "
            f"{counts[1]} synthetic pairs of {said} recordings"
        )
    say(sayings, root, fetch_libraries(archive))
    convert(recordings, root)
    return Built(
        {},
        (
            *notes,
            "natural: WordNet 3.0's path similarity stands for people's scores; related numbers "
            "also sound alike, and who trains on stamps has heard the stamps",
            "synthetic: WordSim-353 (relatedness) and SimLex-999 (similarity), rated by people",
            f"voices: {', '.join(VOICES)}; {SYNTHETIC_SPEAKERS}",
            *sources.licences(natural),
        ),
    )


def recorded_words(archive: Path | None, wordnet: WordNet) -> dict[str, dict[str, list[Path]]]:
    """Return the recordings that hold one English noun, by package and noun.

    An article before it stays in the recording: stamps are called `a badger`.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    # A word of two packages would be compared across speakers.
    taken: set[str] = set()
    for package, recordings in (
        (sources.KTUBERLING, sources.named_things(archive)),
        (sources.STAMPS, sources.stamps_in_english(archive)),
        (sources.ASTERISK, sources.clear_prompts(archive)),
    ):
        words: dict[str, list[Path]] = {}
        for one in recordings:
            word = ARTICLE.sub("", one.words)
            means_itself = one.path.parent.name not in NO_MEANING
            if len(word) >= SHORTEST_WORD and wordnet.has(word) and means_itself:
                words.setdefault(word, []).append(one.path)
        found[package] = {word: paths for word, paths in words.items() if word not in taken}
        taken |= words.keys()
    return found


def rated_pairs(name: str) -> list[ScoredPair]:
    """Read a list of `RATED`; words in lower case, a repeated pair once."""
    path = Path(__file__).parents[2] / f"assets/zerospeech/{name}.csv"
    found: dict[frozenset[str], ScoredPair] = {}
    with open(path, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            pair = ScoredPair(row["word_1"].lower(), row["word_2"].lower(), float(row["score"]))
            found.setdefault(frozenset((pair.word_1, pair.word_2)), pair)
    return list(found.values())


def split_of(word: str) -> str:
    """Return the split of a word, by the word alone: `dev` has half of all, `test` the others."""
    return SPLITS[hashlib.sha256(f"zerospeech/{word}".encode()).digest()[0] % 2]


def within(split: str, pairs: Iterable[ScoredPair]) -> list[ScoredPair]:
    """Return the pairs whose words are both in a split."""
    return [p for p in pairs if split_of(p.word_1) == split_of(p.word_2) == split]


class WordNet:
    """WordNet's nouns and their hypernyms.

    Raises:
        CorpusError: the package cannot be fetched.
    """

    def __init__(self, archive: Path | None = None) -> None:
        (package,) = debian.packages([WORDNET], archive)
        folder = package.root / "usr/share/wordnet"
        self._senses = {
            fields[0]: fields[-int(fields[2]) :] for fields in _records(folder / "index.noun")
        }
        self._above = {fields[0]: _hypernyms(fields) for fields in _records(folder / "data.noun")}

    def has(self, word: str) -> bool:
        """Return whether a word is a noun."""
        return word in self._senses

    def distance(self, a: str, b: str) -> float:
        """Count the steps between the closest senses of two nouns over a common hypernym."""
        above_a, above_b = self._hypernyms_of(a), self._hypernyms_of(b)
        common = above_a.keys() & above_b.keys()
        return min((above_a[sense] + above_b[sense] for sense in common), default=math.inf)

    def _hypernyms_of(self, word: str) -> dict[str, int]:
        """Return all hypernyms of a noun's senses, with the fewest steps to each."""
        steps = dict.fromkeys(self._senses[word], 0)
        queue = list(steps)
        for sense in queue:
            for higher in self._above[sense]:
                if higher not in steps:
                    steps[higher] = steps[sense] + 1
                    queue.append(higher)
        return steps

    def pairs(self, words: Iterable[str]) -> list[ScoredPair]:
        """Pair nouns, scored by path similarity: 10 / (1 + steps between them).

        Of each distance no more than `PAIRS_OF_A_DISTANCE` pairs are kept, chosen by the words'
        hashes.
        """
        by_distance: dict[float, list[tuple[str, str]]] = {}
        for a, b in combinations(sorted(set(words)), 2):
            by_distance.setdefault(self.distance(a, b), []).append((a, b))
        kept = [
            ScoredPair(a, b, round(10 / (1 + distance), 3))
            for distance, some in by_distance.items()
            for a, b in sorted(some, key=_hash)[:PAIRS_OF_A_DISTANCE]
        ]
        return sorted(kept, key=lambda pair: (pair.word_1, pair.word_2))


def _words(pairs: Iterable[ScoredPair]) -> list[str]:
    return sorted({word for pair in pairs for word in (pair.word_1, pair.word_2)})


def _scores(dataset: str, pair: ScoredPair) -> tuple[str, str]:
    """Return the cells of similarity and relatedness; one is empty."""
    score = f"{pair.score:g}"
    return ("", score) if RATED.get(dataset) == "relatedness" else (score, "")


def _write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=head).to_csv(path, index=False)


def _hash(pair: tuple[str, str]) -> str:
    return hashlib.sha256("/".join(pair).encode()).hexdigest()


def _records(path: Path) -> Iterable[list[str]]:
    with open(path, encoding="utf-8") as handle:
        for line in handle:
            if not line.startswith("  "):  # the licence
                yield line.partition(" | ")[0].split()


def _hypernyms(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the senses above one: offset, file, kind, word count in hex, words, pointers."""
    first = 4 + 2 * int(fields[3], 16)
    pointers = fields[first + 1 : first + 1 + 4 * int(fields[first])]
    return tuple(
        offset
        for symbol, offset, part in zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
        if symbol in HYPERNYMS and part == "n"
    )
