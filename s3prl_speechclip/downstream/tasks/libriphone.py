"""SUPERB's phone recognition on LibriSpeech: transcripts looked up in a lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.files import read_lines
from ...errors import CorpusError
from ..ctc_corpora import LIBRISPEECH, Bucketed, Entry, leave_padding_blank, transcripts
from ..heads import recognised
from ..task import Layout, Metric, Task, Values

LEXICONS = (
    "librispeech-lexicon-200k-g2p.txt",
    "librispeech-lexicon-allothers-g2p.txt",
    "librispeech-lexicon.txt",
)
G2P = (
    "the lexicon of openslr.org/11 lacks 14,716 words of LibriSpeech, which s3prl's lists "
    f"{LEXICONS[0]} and {LEXICONS[1]} have"
)
NAMED = 5  # words without a pronunciation that a message names


class LibriPhoneDataset(Bucketed):
    """Phones of the first pronunciation that the lexicons have of each word."""

    def read(
        self,
        root: Path,
        splits: Sequence[str],
        tokenizer: Any,
        *,
        lexicon: Sequence[str] = (),
        **others: Any,
    ) -> list[Entry]:
        """Read LibriSpeech.

        Args:
            root, splits, tokenizer, others: see `Bucketed`.
            lexicon: lexicons, files of lines `WORD PH PH ...`, earlier entries first in rank.

        Raises:
            CorpusError: a word has no pronunciation, or a phone is not in the vocabulary.
        """
        phones: dict[str, list[str]] = {}
        for line in (line for file in lexicon for line in read_lines(Path(file))):
            word, *pronunciation = line.split()
            if pronunciation:
                phones.setdefault(word, pronunciation)
        texts = list(transcripts(root, splits))
        unknown = sorted({word for _, text in texts for word in text.split()} - phones.keys())
        if unknown:
            raise CorpusError(
                f"{len(unknown)} words of {', '.join(splits)} are in no lexicon "
                f"({', '.join(unknown[:NAMED])}); {G2P}; put them beside the others, or add the "
                f"words to '{lexicon[-1]}'"
            )
        entries = []
        for file, text in texts:
            spoken = " ".join(phone for word in text.split() for phone in phones[word])
            tokens = tokenizer.encode(spoken)
            if tokenizer.unk_idx in tokens:
                raise CorpusError(f"'{file}': a phone of '{spoken}' is not in the vocabulary")
            entries.append((file, tokens))
        return entries


def _place(root: Path) -> Values:
    lexicons = [str(root / name) for name in LEXICONS if (root / name).is_file()]
    return {"corpus": {"path": str(root), "lexicon": lexicons}}


TASK = Task(
    name="libriphone",
    short="pr",
    expert="ctc",
    title="phone recognition",
    metrics=(Metric(key="per", label="PR PER", column="PR", higher_is_better=False),),
    evaluated_together=True,
    head=recognised(" "),
    layout=Layout(
        title="LibriSpeech",
        fetch=f"openslr.org/12, and lexicons from s3prl's PR task or openslr.org/11 ({G2P})",
        text="{train-clean-100,dev-clean,test-clean}/<speaker>/<chapter>/*.flac and *.trans.txt, "
        f"and {' or '.join(LEXICONS)}",
        needed=("train-clean-100", "dev-clean", "test-clean", "|".join(LEXICONS)),
        place=_place,
        key="corpus.path",
        published=LIBRISPEECH,
    ),
    correct=leave_padding_blank,
)
