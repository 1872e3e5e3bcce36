"""LibriSpeech and corpora in its layout: `<split>/<speaker>/<chapter>/` with `*.trans.txt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s3prl_speechclip.downstream.ctc.corpus.buckets import Bucketed
from s3prl_speechclip.errors import CorpusError


class LibriDataset(Bucketed):
    """Transcripts as the tokenizer's units.

    Args:
        split: folders below `path`.
        tokenizer: s3prl's text encoder.
        bucket_size: see `Bucketed`.
        path: of the corpus.
        ascending: see `Bucketed`.
        others: keys of s3prl's configuration that this reader has no use for.

    Raises:
        CorpusError: a folder or a transcript is missing.
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
        texts = transcripts(Path(path), split)
        entries = [(file, tokenizer.encode(text)) for file, text in texts]
        super().__init__(entries, bucket_size, ascending)


def transcripts(root: Path, splits: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Give every recording of some splits with its transcript.

    Raises:
        CorpusError: a split's folder, its recordings or a transcript are missing.
    """
    for split in splits:
        files = sorted((root / split).rglob("*.flac"))
        if not files:
            raise CorpusError(
                f"no '*.flac' below '{root / split}'; expected "
                f"{split}/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
            )
        said: dict[Path, dict[str, str]] = {}
        for file in files:
            speaker, chapter = file.stem.split("-")[:2] if file.stem.count("-") >= 2 else ("", "")
            lines = file.with_name(f"{speaker}-{chapter}.trans.txt")
            if lines not in said:
                said[lines] = _read(lines)
            if file.stem not in said[lines]:
                raise CorpusError(f"'{file}' has no transcript in '{lines}'; restore it")
            yield file, said[lines][file.stem]


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read '{path}' ({error}); restore it") from error
    parts = (line.partition(" ") for line in lines)
    return {name: text.strip() for name, _, text in parts if name}
