"""ZeroSpeech 2021's semantic set: the official one, or a mini set made at its first use.

The mini set's synthetic part is the words of WordSim-353 and SimLex-999 in synthetic voices. Of the
recorded words that Debian's packages hold, hardly two are rated there; so the natural part has
WordNet's path similarity in the place of people's scores, and pairs words of one package only,
because a package has its own speaker and sound. No word is in both `dev` and `test`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ...data.cache import cache_home, made_once
from ...data.corpora.zerospeech import (
    NATURAL,
    SPLITS,
    SYNTHETIC,
    Pair,
    SemanticSet,
    SemanticSplit,
    Token,
    write_gold,
    write_pairs,
)
from ...errors import CorpusError
from ..stamps.prepare import Progress
from ..stamps.progress import Bars
from ..superb import sources
from ..superb.building import SYNTHETIC as SYNTHETIC_VOICES
from ..superb.speakers import Saying, convert, say
from ..synthesis import fetch_libraries
from .words import RATED, Rated, WordNet, rated_pairs, split_of, within

NAME = "zerospeech2021"
MINI = "zerospeech_mini"
VERSION = 1  # counts up whenever a file of the mini set changes
DESCRIPTION = "mini_set.json"
VOICES = ("Slt", "Rms", "Andrea", "David")
"""Two of flite and two of espeak-ng, two women and two men."""
SHORTEST_WORD = 3  # letters; shorter ones are nouns of WordNet that nobody means, such as `at`
ARTICLE = re.compile(r"^(a|an|the) ")
NO_MEANING = ("phonetic",)
"""Folders of telephone prompts whose words stand for letters."""


def mini_set(archive: Path | None = None, progress: Progress | None = None) -> SemanticSet:
    """Give the mini set; make it at the first use, in about a minute on two cores.

    Args:
        archive: a .deb file or a folder of them, for machines without apt-get.
        progress: told what is being done; by default a bar on standard error.

    Raises:
        CorpusError: a package cannot be had, a file of it is broken, the disk is full.
    """
    folder = cache_home() / "zerospeech" / f"v{VERSION}"
    root = made_once(folder, partial(_make, archive, progress or Bars()))
    try:
        notes = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
        return SemanticSet(root, MINI, mini=True, notes=tuple(map(str, notes)))
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(
            f"'{root}' holds no readable {DESCRIPTION}, so it is no whole mini set; remove the "
            "folder, and it is made again"
        ) from error


def _make(archive: Path | None, progress: Progress, root: Path) -> None:
    wordnet = WordNet(archive)
    natural = recorded_words(archive, wordnet)
    lists = {name: rated_pairs(name) for name in RATED}
    libraries = fetch_libraries(archive)
    sayings: list[Saying] = []
    recordings: dict[str, Path] = {}
    notes = []
    for split in SPLITS:
        folder = SemanticSplit(root / "semantic" / split)
        synthetic = {name: within(split, pairs) for name, pairs in lists.items()}
        spoken = {
            package: wordnet.pairs(_split_words(split, words)) for package, words in natural.items()
        }
        pairs = [
            *(_pair(SYNTHETIC, name, p) for name, some in synthetic.items() for p in some),
            *(_pair(NATURAL, name, p) for name, some in spoken.items() for p in some),
        ]
        said = _tokens(pairs)
        heard = [
            (Token(NATURAL, f"{package}-{word}-{number}", word, ""), source)
            for package, some in spoken.items()
            for word in sorted({w for p in some for w in (p.word_1, p.word_2)})
            for number, source in enumerate(natural[package][word])
        ]
        for token in said:
            path = f"semantic/{split}/{SYNTHETIC}/{token.filename}.wav"
            sayings.append(Saying(path, token.voice, token.word))
        for token, source in heard:
            recordings[f"semantic/{split}/{NATURAL}/{token.filename}.wav"] = source
        folder.folder.mkdir(parents=True)
        write_gold(folder.gold, [*said, *(token for token, _ in heard)])
        write_pairs(folder.pairs, pairs)
        notes += [
            f"{split}: {_counts(spoken)} natural pairs of {len(heard)} recordings, "
            f"{_counts(synthetic)} synthetic pairs of {len(said)} recordings"
        ]
    say(sayings, root, libraries, progress)
    convert(recordings, root, progress)
    licences = [f"{package}: {sources.LICENCES[package]}" for package in natural]
    notes += [
        "natural: WordNet 3.0's path similarity stands for people's scores; related numbers also "
        "sound alike, and who trains on stamps has heard the stamps",
        "synthetic: WordSim-353 (relatedness) and SimLex-999 (similarity), rated by people",
        f"voices: {', '.join(VOICES)}; {SYNTHETIC_VOICES}",
        *licences,
    ]
    text = json.dumps(notes, indent=2, ensure_ascii=False) + "\n"
    (root / DESCRIPTION).write_text(text, encoding="utf-8")


def recorded_words(archive: Path | None, wordnet: WordNet) -> dict[str, dict[str, list[Path]]]:
    """Give the recordings that hold one English noun, by package and noun.

    An article before it stays in the recording: stamps are called `a badger`.
    """
    speech = {
        sources.KTUBERLING: sources.ktuberling(archive),
        sources.STAMPS_PACKAGE: sources.stamps_in_english(archive),
        sources.ASTERISK[0]: sources.asterisk(archive),
    }
    found: dict[str, dict[str, list[Path]]] = {package: {} for package in speech}
    for package, some in speech.items():
        for one in some:
            word = ARTICLE.sub("", one.text)
            if (
                len(word) >= SHORTEST_WORD
                and wordnet.has(word)
                and one.source.parent.name not in NO_MEANING
            ):
                found[package].setdefault(word, []).append(one.source)
    # A word of two packages would be compared across speakers.
    taken: set[str] = set()
    for package, words in found.items():
        found[package] = {w: paths for w, paths in words.items() if w not in taken}
        taken |= words.keys()
    return found


def _split_words(split: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if split_of(word) == split]


def _tokens(pairs: Sequence[Pair]) -> list[Token]:
    words = sorted({w for p in pairs if p.type == SYNTHETIC for w in (p.word_1, p.word_2)})
    return [Token(SYNTHETIC, f"{v.lower()}-{word}", word, v) for word in words for v in VOICES]


def _pair(kind: str, dataset: str, pair: Rated) -> Pair:
    asked = RATED.get(dataset, "similarity")
    return Pair(
        kind,
        dataset,
        pair.word_1,
        pair.word_2,
        similarity=pair.score if asked == "similarity" else math.nan,
        relatedness=pair.score if asked == "relatedness" else math.nan,
    )


def _counts(pairs: Mapping[str, list[Rated]]) -> str:
    return " + ".join(f"{len(some)} ({name})" for name, some in pairs.items())
