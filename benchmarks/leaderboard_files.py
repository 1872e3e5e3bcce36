"""Result files, as the leaderboard reads them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.results import read_result
from s3prl_speechclip.structures import TaskResult

from .leaderboard_published import ZEROSPEECH
from .leaderboard_tables import Figure, Identity

CORPORA = {"flickr8k": "Flickr8k", "spokencoco": "SpokenCOCO", "zerospeech2021": ZEROSPEECH}
"""Corpora that published tables have, as those spell them."""


@dataclass(frozen=True)
class ResultFile:
    """A result and where it lies."""

    path: Path
    result: TaskResult
    folder: str
    """Below the folder of results; empty: in it."""
    link: str

    def number(self, *keys: str) -> float:
        """Give a metric.

        Raises:
            ResultError: it is missing or no number.
        """
        value: Any = self.result.metrics
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        name = ".".join(keys)
        if isinstance(value, bool) or not isinstance(value, int | float):
            found = "nothing" if value is None else repr(value)
            raise ResultError(
                f"'{self.path}' has no metric '{name}' (found {found}); measure "
                f"{self.result.task} again"
            )
        if not math.isfinite(value):
            raise ResultError(f"the metric '{name}' of '{self.path}' is {value}; measure it again")
        return float(value)

    def figure(self, section: str, identity: Identity, column: str, value: float) -> Figure:
        """Give a figure of this file."""
        return Figure(
            section=section,
            identity=identity,
            column=column,
            value=value,
            source=self.path.name,
            link=self.link,
        )

    def identity(self, split: str = "", detail: str = "", system: str = "") -> Identity:
        """Say what a figure of this file is of.

        Args:
            split: of the corpus.
            detail: which of the system's embeddings, and the like.
            system: a baseline that the file has beside its own system.
        """
        corpus = CORPORA.get(self.result.corpus, self.result.corpus)
        return Identity(
            corpus=f"{corpus} {split}" if split not in ("", "test") else corpus,
            system=system or self.result.system,
            size="" if system else self.result.size,
            detail=detail,
            runs="" if system else self.folder or self.path.stem,
            mini=self.result.mini,
        )


def result_files(folders: Sequence[Path], home: Path) -> Iterator[ResultFile]:
    """Read the result files below folders, in a fixed order; the same result once in a place.

    Raises:
        ResultError: there is no such folder, or a file is damaged or of another format.
    """
    seen: set[tuple] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ResultError(f"there is no folder of results '{folder}'; name another")
        for path in sorted(folder.rglob("*.json")):
            result = read_result(path)
            _check(path, result)
            inner = path.parent.relative_to(folder).as_posix()
            about = (result.task, result.system, result.size, result.corpus, result.checkpoint_hash)
            same = (inner, *about, result.seed, repr(result.metrics))
            if same in seen:
                continue
            seen.add(same)
            yield ResultFile(
                path, result, "" if inner == "." else inner, os.path.relpath(path, home)
            )


def _check(path: Path, result: TaskResult) -> None:
    texts = (result.task, result.system, result.size, result.corpus, result.checkpoint_hash)
    if not all(isinstance(text, str) for text in texts) or not isinstance(result.metrics, Mapping):
        raise ResultError(
            f"'{path}' is not a result file: expected names in task, system, size, corpus and "
            "checkpoint_hash, and metrics by name; measure again"
        )
