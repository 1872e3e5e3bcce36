"""Declarations of the leaderboard's tables, their columns, and the figures of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.structures import TaskResult

KS = (1, 5, 10)
"""Cut-offs of recall."""
CHANCE = "chance"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One leaderboard column."""

    name: str
    title: str = ""
    """Heading, where it is not the name."""
    lower_is_better: bool = False
    digits: int = 1
    merit: bool = True
    """False: a property of the system that is neither good nor bad."""

    @property
    def heading(self) -> str:
        """Return the heading."""
        return self.title or self.name.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One leaderboard figure of a result."""

    column: str
    keys: tuple[str, ...]
    """Where the result's metrics hold it."""
    split: str = ""
    detail: str = ""
    """Which of a system's embeddings, and the like."""
    baseline: str = ""
    """Name of a baseline that the result holds beside its own system."""
    corpus: str = ""
    """Shown instead of the result's own; the results of a folder are then one row."""
    factor: float = 1.0
    note: str = ""
    """Remark shown beside it."""
    fold: str = ""
    """Name of the fold that it is of, where the column shows the mean of several."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One leaderboard table."""

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rank_by: str
    """Column that rows are ordered by."""
    figures: Callable[[TaskResult], Iterable[Figure]] | None = None
    """Figures of a result; None where only published figures are shown."""


def recall_columns(directions: Iterable[str]) -> tuple[Column, ...]:
    """Return the leaderboard columns of recall in some directions."""
    return tuple(Column(name=f"{direction} R@{k}") for direction in directions for k in KS)


def recall_figures(
    metrics: Mapping[str, Any], names: Sequence[str], directions: Mapping[str, str]
) -> Iterator[Figure]:
    """Return the leaderboard figures of recall, by split, embedding and chance."""
    for split, found in metrics.items():
        measured = [name for name in names if name in found]
        if not measured:
            raise ResultError(f"it has no metric of {', '.join(names)} in '{split}'")
        for name in (*measured, CHANCE):
            for short, direction in directions.items():
                for k in KS:
                    yield Figure(
                        column=f"{short} R@{k}",
                        keys=(split, name, direction, f"recall@{k}"),
                        split=split,
                        detail="" if name == CHANCE else name,
                        baseline=CHANCE if name == CHANCE else "",
                    )
