"""LibriSpeech as phones: transcripts looked up in a lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_speechclip.downstream.ctc.corpus.buckets import Bucketed
from s3prl_speechclip.downstream.ctc.corpus.librispeech import transcripts
from s3prl_speechclip.errors import CorpusError

NAMED = 5  # words without a pronunciation that a message names


class LibriPhoneDataset(Bucketed):
    """Phones of the first pronunciation that the lexicons have of each word.

    Args:
        split: folders below `path`.
        tokenizer: s3prl's text encoder, phones as its words.
        bucket_size: see `Bucketed`.
        path: of the corpus.
        lexicon: files of lines `WORD PH PH ...`.
        ascending: see `Bucketed`.
        others: keys of s3prl's configuration that this reader has no use for.

    Raises:
        CorpusError: a file is missing, a word has no pronunciation, or a phone is not in the
            vocabulary.
    """

    def __init__(
        self,
        split: Sequence[str],
        tokenizer: Any,
        bucket_size: int,
        path: str,
        lexicon: Sequence[str],
        ascending: bool = False,
        **others: Any,
    ) -> None:
        phones = read_lexicon(lexicon)
        texts = list(transcripts(Path(path), split))
        unknown = sorted({word for _, text in texts for word in text.split()} - phones.keys())
        if unknown:
            raise CorpusError(
                f"{len(unknown)} words of {', '.join(split)} are in no lexicon "
                f"({', '.join(unknown[:NAMED])}); add them to '{lexicon[-1]}'"
            )
        entries = []
        for file, text in texts:
            said = " ".join(phone for word in text.split() for phone in phones[word])
            tokens = tokenizer.encode(said)
            if tokenizer.unk_idx in tokens:
                raise CorpusError(f"'{file}': a phone of '{said}' is not in the vocabulary")
            entries.append((file, tokens))
        super().__init__(entries, bucket_size, ascending)


def read_lexicon(files: Sequence[str]) -> dict[str, list[str]]:
    """Read lexicons, earlier entries first in rank.

    Raises:
        CorpusError: a file cannot be read.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read the lexicon '{file}' ({error})") from error
        for line in lines:
            word, *phones = line.split() or [""]
            if phones:
                found.setdefault(word, phones)
    return found
