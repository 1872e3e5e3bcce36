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


class PhoneticSet(NamedTuple):
    """The phonetic set."""

    root: Path
    """The folder of the subsets."""
    corpus: str
    mini: bool
    notes: tuple[str, ...] = ()
    """Sources and sizes, a sentence each."""

    def items(self, subset: str) -> list[Item]:
        """Read the triphones of one of `SUBSETS`."""
        return read_items(self.root / subset / f"{subset}.item")

    def recording(self, subset: str, file: str) -> Path:
        """Return the path of an item's recording."""
        return self.root / subset / f"{file}.wav"


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


class SemanticSet(NamedTuple):
    """The whole set."""

    root: Path
    corpus: str
    mini: bool
    notes: tuple[str, ...] = ()
    """Sources and sizes, a sentence each."""

    def split(self, name: str) -> SemanticSplit:
        """Return `dev` or `test`."""
        return SemanticSplit(self.root / "semantic" / name)


def load_set(root: str | Path | None = None, archive: str | Path | None = None) -> SemanticSet:
    """Read the official set, or make the mini set where there is no official one.

    Args:
        root: folder that holds `semantic/`; default: `zerospeech2021` in the folder that the
            environment variable S3PRL_SPEECHCLIP_DATA names, where it exists, else the mini set.
        archive: packages for the mini set, for machines without apt-get.

    Raises:
        CorpusError: the set is not in its layout, or the mini set cannot be made.
    """
    if folder := _official(root, archive):
        return find_set(folder)
    from ...minis import mini_set

    made = mini_set("zerospeech", Path(archive).expanduser() if archive else None)
    return SemanticSet(made.root, MINI, mini=True, notes=made.notes)


def load_phonetic_set(
    root: str | Path | None = None, archive: str | Path | None = None
) -> PhoneticSet:
    """Read the official set's phonetic part, or make the mini set where there is none.

    Args:
        root: folder that holds `phonetic/`, or that folder; default: see `load_set`.
        archive: see `load_set`.

    Raises:
        CorpusError: the set is not in its layout, or the mini set cannot be made.
    """
    if folder := _official(root, archive):
        found = PhoneticSet(_phonetic(folder), NAME, mini=False)
    else:
        from ...minis import mini_set

        made = mini_set("abx", Path(archive).expanduser() if archive else None)
        found = PhoneticSet(_phonetic(made.root), MINI_PHONETIC, mini=True, notes=made.notes)
    for subset in SUBSETS:
        path = found.root / subset / f"{subset}.item"
        if not path.is_file():
            raise CorpusError(
                f"there is no '{path}'; --data-root names the folder of ZeroSpeech 2021's "
                f"abxLS-dataset (zerospeech.com), which holds {PHONETIC_LAYOUT}"
            )
    return found


def _phonetic(folder: Path) -> Path:
    inner = folder / "phonetic"
    return inner if inner.is_dir() else folder


def _official(root: str | Path | None, archive: str | Path | None) -> Path | None:
    """Return the folder of the official set; None where the mini set is to be used."""
    folder = Path(root).expanduser().absolute() if root else default_root(NAME)
    if folder is None or not (root or folder.is_dir()):
        return None
    if archive:
        raise CorpusError("--archive is for the mini set; leave it or --data-root out")
    return folder


def find_set(root: Path) -> SemanticSet:
    """Find the official set in a folder that holds `semantic/`."""
    found = SemanticSet(root, NAME, mini=False)
    for name in SPLITS:
        split = found.split(name)
        for path in (split.gold, split.pairs, *(split.folder / kind for kind in TYPES)):
            if not path.exists():
                raise CorpusError(
                    f"there is no '{path}'; --data-root names the folder of ZeroSpeech 2021's "
                    f"sLM21-dataset (zerospeech.com), which holds {LAYOUT}"
                )
    return found


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
