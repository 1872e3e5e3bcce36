"""Audio SNIPS: `{train,valid,test}/<speaker>-snips-<split>-<number>.wav`, `all.iob.snips.txt`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3prl_speechclip.downstream.ctc.corpus.buckets import Bucketed
from s3prl_speechclip.errors import CorpusError

logger = logging.getLogger(__name__)

LABELS = "all.iob.snips.txt"


class SnipsDataset(Bucketed):
    """Characters of the words between the marks of their slots.

    Args:
        split: folders below `path`.
        tokenizer: s3prl's character-slot encoder.
        bucket_size: see `Bucketed`.
        path: of the corpus.
        ascending: see `Bucketed`.
        others: of s3prl's configuration, `<split>_speakers` is used: who belongs to a split.

    Raises:
        CorpusError: a file is missing, a line has another form, or a speaker has no recordings.
    """

    def __init__(
        self,
        split: Sequence[str],
        tokenizer: Any,
        bucket_size: int,
        path: str,
        ascending: bool = False,
        **others: Any,
    ) -> None:
        root = Path(path)
        labels = read_labels(root / LABELS)
        entries = []
        for name in split:
            files = sorted((root / name).rglob("*.wav"))
            speakers = others.get(f"{name}_speakers")
            if speakers:
                files = [file for file in files if file.stem.split("-")[0] in speakers]
            told = [file for file in files if file.stem in labels]
            if not told:
                raise CorpusError(
                    f"no '*.wav' below '{root / name}' of {', '.join(speakers or ['anybody'])} "
                    f"with a line in {LABELS}"
                )
            if len(told) < len(files):
                logger.warning("%s: %d recordings have no labels", name, len(files) - len(told))
            entries += [(file, tokenizer.encode(labels[file.stem])) for file in told]
        super().__init__(entries, bucket_size, ascending)


def read_labels(path: Path) -> dict[str, str]:
    """Read the sentences, `BOS word ... EOS<tab>O slot ... intent`, by recording.

    Raises:
        CorpusError: the file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read the labels '{path}' ({error}); restore them") from error
    labels = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, sentence = line.strip().partition(" ")
        words, tab, slots = sentence.partition("\t")
        if not tab or len(words.split(" ")) != len(slots.split(" ")):
            raise CorpusError(
                f"'{path}' line {number}: expected 'name BOS word ... EOS<tab>O slot ... intent', "
                f"found '{line[:60]}'"
            )
        labels[name] = sentence
    return labels
