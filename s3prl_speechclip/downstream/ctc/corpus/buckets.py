"""Recordings with their tokens, one by one or in buckets of like length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from s3prl_speechclip.errors import CorpusError

Entry = tuple[Path, list[int]]


class Bucketed(Dataset[Any]):
    """Recordings, the longest texts first.

    With a bucket size above 1 an item is a bucket: the recording at the index and those that
    follow it, as s3prl's `ctc` task wants them.

    Args:
        entries: path and token ids of each recording.
        bucket_size: recordings to an item; 1: an item is one recording.
        ascending: the shortest texts first instead.

    Raises:
        CorpusError: there are no recordings.
    """

    def __init__(self, entries: Sequence[Entry], bucket_size: int, ascending: bool = False) -> None:
        if not entries:
            raise CorpusError("a split holds no recordings; check the corpus's files")
        # Ties by path: the order must not hang on what the file system lists first.
        by_path = sorted(entries, key=lambda entry: str(entry[0]))
        self.entries = sorted(by_path, key=lambda entry: len(entry[1]), reverse=not ascending)
        self.bucket_size = bucket_size

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Entry | list[Entry]:
        if self.bucket_size <= 1:
            return self.entries[index]
        start = max(0, min(len(self.entries) - self.bucket_size, index))
        return self.entries[start : start + self.bucket_size]
