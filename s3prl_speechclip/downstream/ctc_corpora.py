"""Corpora for s3prl's `ctc` expert, whose wheel lacks its own readers.

`compat` puts them where the expert imports them. An item is a recording's path and its token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.files import read_lines
from ..errors import CorpusError

NEVER = -1e4  # logit of a unit that is not decoded
Entry = tuple[Path, list[int]]
LIBRISPEECH = {
    "train-clean-100/*/*/*.flac": 28_539,
    "dev-clean/*/*/*.flac": 2_703,
    "test-clean/*/*/*.flac": 2_620,
}
"""Recordings of the published corpus, by split."""


class Bucketed:
    """Recordings, the longest texts first.

    With a bucket size above 1 an item is a bucket: the recording at the index and those that
    follow it, as s3prl's `ctc` task wants them.

    Args:
        split: folders below `path`.
        tokenizer: s3prl's text encoder.
        bucket_size: recordings to an item; 1: an item is one recording.
        path: root of the corpus.
        ascending: the shortest texts first instead.
        others: other keys of s3prl's configuration.

    Raises:
        CorpusError: there are no recordings, or a file of the corpus is missing or malformed.
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
        entries = self.read(Path(path), split, tokenizer, **others)
        if not entries:
            raise CorpusError("a split holds no recordings; check the corpus's files")
        # Ties by path, so that batches do not depend on the file system's order.
        by_path = sorted(entries, key=lambda entry: str(entry[0]))
        self.entries = sorted(by_path, key=lambda entry: len(entry[1]), reverse=not ascending)
        self.bucket_size = bucket_size

    def read(self, root: Path, splits: Sequence[str], tokenizer: Any, **others: Any) -> list[Entry]:
        """Read the path and token ids of each recording."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Entry | list[Entry]:
        if self.bucket_size <= 1:
            return self.entries[index]
        start = max(0, min(len(self.entries) - self.bucket_size, index))
        return self.entries[start : start + self.bucket_size]


class LibriDataset(Bucketed):
    """Transcripts as the tokenizer's units."""

    def read(self, root: Path, splits: Sequence[str], tokenizer: Any, **others: Any) -> list[Entry]:
        """Read LibriSpeech."""
        return [(file, tokenizer.encode(text)) for file, text in transcripts(root, splits)]


def transcripts(root: Path, splits: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Read every recording's path and transcript.

    Raises:
        CorpusError: a split's folder, its recordings or a transcript are missing.
    """
    for split in splits:
        files = find_flac(root / split)
        if not files:
            raise CorpusError(
                f"no '*.flac' below '{root / split}'; expected "
                f"{split}/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
            )
        chapters: dict[Path, dict[str, str]] = {}
        for file in files:
            table = file.with_name("-".join(file.stem.split("-")[:2]) + ".trans.txt")
            if table not in chapters:
                parts = (line.partition(" ") for line in read_lines(table))
                chapters[table] = {name: text.strip() for name, _, text in parts}
            if file.stem not in chapters[table]:
                raise CorpusError(f"'{file}' has no transcript in '{table}'; restore it")
            yield file, chapters[table][file.stem]


def leave_padding_blank(expert: Any) -> None:
    """Have s3prl's `ctc` expert decode nothing on padding, which it reads as if it were frames."""
    import torch

    from ..modules.padding import padding_mask

    def set_blank(module: Any, inputs: Any, output: Any) -> Any:
        logits, lengths = output
        if module.training:
            return output
        padding = padding_mask(lengths.to(logits.device), logits.shape[1])
        blank = torch.full_like(logits[0, 0], NEVER)
        blank[expert.tokenizer.pad_idx] = 0.0
        return torch.where(padding.unsqueeze(-1), blank, logits), lengths

    expert.model.register_forward_hook(set_blank)


def find_flac(folder: Path) -> list[Path]:
    """Return the recordings below a folder, without the hidden files that macOS adds."""
    return sorted(path for path in folder.rglob("*.flac") if not path.name.startswith("."))


def require_recording(table: Path, number: int, path: Path) -> None:
    """Check that the recording in a line of a table exists.

    Raises:
        CorpusError: it does not.
    """
    if not path.is_file():
        raise CorpusError(
            f"'{table}' line {number}: no recording '{path}'; restore it or remove the line"
        )
