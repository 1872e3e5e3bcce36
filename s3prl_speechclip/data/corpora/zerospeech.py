"""ZeroSpeech 2021's semantic and phonetic sets on disk.

    semantic/{dev,test}/gold.csv         type,filename,word,voice
    semantic/{dev,test}/pairs.csv        type,dataset,word_1,word_2,similarity,relatedness
    semantic/{dev,test}/<type>/<filename>.wav

The type is `synthetic` or `librispeech`; the voice is empty for the latter. Each file is a spoken
word; each pair holds people's score of two words, in one of two columns.

    phonetic/{dev,test}-{clean,other}/{dev,test}-{clean,other}.item
        #file onset offset #phone prev-phone next-phone speaker     triphones, in seconds
    phonetic/{dev,test}-{clean,other}/<file>.wav

The sets have no images, so that they are no choice of `--data`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import CorpusError
from ..files import read_table
from .corpus import default_root

NAME = "zerospeech2021"
MINI = "zerospeech_mini"
MINI_PHONETIC = "abx_mini"
NATURAL, SYNTHETIC = "librispeech", "synthetic"
TYPES = (NATURAL, SYNTHETIC)
SPLITS = ("dev", "test")
GOLD_COLUMNS = ("type", "filename", "word", "voice")
PAIR_COLUMNS = ("type", "dataset", "word_1", "word_2", "similarity", "relatedness")
LAYOUT = "semantic/{dev,test}/{gold.csv,pairs.csv,synthetic/*.wav,librispeech/*.wav}"
SPEECH = ("clean", "other")
SUBSETS = tuple(f"{split}-{speech}" for split in SPLITS for speech in SPEECH)
ITEM_COLUMNS = ("#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker")
PHONETIC_LAYOUT = "phonetic/{dev,test}-{clean,other}/{*.wav,{dev,test}-{clean,other}.item}"
REMEDY = "restore the file"


class Token(NamedTuple):
    """A recording of a word; the file's name is without its suffix."""

    type: str
    filename: str
    word: str
    voice: str


class Pair(NamedTuple):
    """Two words, and people's score of their similarity or relatedness."""

    type: str
    dataset: str
    word_1: str
    word_2: str
    similarity: float
    relatedness: float
    """Of the two scores, NaN where people were not asked for it."""


class Item(NamedTuple):
    """A triphone in a recording."""

    file: str
    """The recording's name without its suffix."""
    onset: float
    """Seconds, of the previous phone."""
    offset: float
    """Seconds, of the next phone."""
    phone: str
    previous: str
    following: str
    speaker: str


class SemanticSplit:
    """`dev` or `test`, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gold, self.pairs = folder / "gold.csv", folder / "pairs.csv"

    def recordings(self) -> dict[tuple[str, str], Path]:
        """Find the recordings of the gold file, by type and file name, in its order."""
        names = [(token.type, token.filename) for token in read_gold(self.gold)]
        paths = {(kind, name): self.folder / kind / f"{name}.wav" for kind, name in names}
        absent = [path for path in paths.values() if not path.is_file()]
        if absent:
            raise CorpusError(
                f"'{self.gold}' names {len(absent)} recordings that are not there, the first: "
                f"'{absent[0]}'; {REMEDY}"
            )
        return paths


class ZeroSpeech(NamedTuple):
    """The official set, or one of its mini sets, which hold a part each."""

    root: Path
    corpus: str = NAME
    mini: bool = False
    notes: tuple[str, ...] = ()
    """Sources and sizes, a sentence each."""

    def split(self, name: str) -> SemanticSplit:
        """Return `dev` or `test` of the semantic part."""
        return SemanticSplit(self.root / "semantic" / name)

    def items(self, subset: str) -> list[Item]:
        """Read the triphones of one of `SUBSETS` of the phonetic part."""
        return read_items(self._phonetic / subset / f"{subset}.item")

    def recording(self, subset: str, file: str) -> Path:
        """Return the path of an item's recording."""
        return self._phonetic / subset / f"{file}.wav"

    @property
    def _phonetic(self) -> Path:
        inner = self.root / "phonetic"
        return inner if inner.is_dir() else self.root


def load_semantic(root: str | Path | None = None, archive: str | Path | None = None) -> ZeroSpeech:
    """Find the official semantic part, or make its mini set where there is none.

    Args:
        root: folder that holds `semantic/`; default: `zerospeech2021` in the folder that the
            environment variable S3PRL_SPEECHCLIP_DATA names, where it exists, else the mini set.
        archive: packages for the mini set, for machines without apt-get.

    Raises:
        CorpusError: the set is not in its layout, or the mini set cannot be made.
    """
    found = _find("zerospeech", MINI, root, archive)
    for split in map(found.split, SPLITS):
        for path in (split.gold, split.pairs, *(split.folder / kind for kind in TYPES)):
            _require(path, "sLM21", LAYOUT)
    return found


def load_phonetic(root: str | Path | None = None, archive: str | Path | None = None) -> ZeroSpeech:
    """Find the official phonetic part, or make its mini set where there is none.

    Args:
        root: folder that holds `phonetic/`, or that folder; default: see `load_semantic`.
        archive: see `load_semantic`.

    Raises:
        CorpusError: the set is not in its layout, or the mini set cannot be made.
    """
    found = _find("abx", MINI_PHONETIC, root, archive)
    for subset in SUBSETS:
        _require(found.recording(subset, subset).with_suffix(".item"), "abxLS", PHONETIC_LAYOUT)
    return found


def _find(
    mini: str, corpus: str, root: str | Path | None, archive: str | Path | None
) -> ZeroSpeech:
    from ...minis import DESCRIPTION, mini_set, read_notes

    folder = Path(root).expanduser().absolute() if root else default_root(NAME)
    if folder is not None and (root or folder.is_dir()):
        if archive:
            raise CorpusError("--archive is for the mini set; leave it or --data-root out")
        if (folder / DESCRIPTION).is_file():
            return ZeroSpeech(folder, corpus, True, read_notes(folder / DESCRIPTION))
        return ZeroSpeech(folder)
    made = mini_set(mini, Path(archive).expanduser() if archive else None)
    return ZeroSpeech(made.root, corpus, True, made.notes)


def _require(path: Path, part: str, layout: str) -> None:
    if not path.exists():
        raise CorpusError(
            f"there is no '{path}'; --data-root names the folder of ZeroSpeech 2021's "
            f"{part}-dataset (zerospeech.com), which holds {layout}"
        )


def read_gold(path: Path) -> list[Token]:
    """Read the word of each recording; none may come twice."""
    tokens: dict[tuple[str, str], Token] = {}
    for row in _rows(path, GOLD_COLUMNS):
        token = Token(*row)
        if tokens.setdefault((token.type, token.filename), token) is not token:
            raise CorpusError(f"'{path}' names '{token.type}/{token.filename}' twice; {REMEDY}")
    return list(tokens.values())


def read_pairs(path: Path) -> list[Pair]:
    """Read people's scores of the pairs."""
    pairs = []
    for kind, dataset, one, other, *scores in _rows(path, PAIR_COLUMNS):
        try:
            similarity, relatedness = (float(text) if text else math.nan for text in scores)
        except ValueError as error:
            raise CorpusError(
                f"'{path}' has '{scores[0]}', '{scores[1]}' for {one} and {other}, expected "
                f"numbers; {REMEDY}"
            ) from error
        pairs.append(Pair(kind, dataset, one, other, similarity, relatedness))
    return pairs


def read_items(path: Path) -> list[Item]:
    """Read the triphones of an item file, whose cells are separated by single spaces."""
    items = []
    for line, row in read_table(path, ITEM_COLUMNS, " "):
        file, *times, phone, previous, following, speaker = (row[name] for name in ITEM_COLUMNS)
        try:
            onset, offset = map(float, times)
            good = 0 <= onset < offset < math.inf
        except ValueError:
            good = False
        if not good:
            raise CorpusError(
                f"'{path}', line {line}, has the times '{times[0]}' and '{times[1]}', expected "
                f"seconds, the first before the second; {REMEDY}"
            )
        items.append(Item(file, onset, offset, phone, previous, following, speaker))
    return items


def _rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    """Read the cells of the columns, of which the first is the type."""
    for _, row in read_table(path, columns):
        if row["type"] not in TYPES:
            raise CorpusError(
                f"'{path}' has the type '{row['type']}', expected {' or '.join(TYPES)}; {REMEDY}"
            )
        yield [row[name] for name in columns]
