"""What the leaderboard's tables are: sections, their columns, and rows of figures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of a system."""

    name: str
    title: str = ""
    """For people, where it says more than the name."""
    lower_is_better: bool = False
    digits: int = 1
    merit: bool = True
    """False: says something about the system that is neither good nor bad."""

    @property
    def heading(self) -> str:
        """Name it for people."""
        return self.title or self.name.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Section:
    """Tables of one protocol: comparable figures, and miniatures by themselves."""

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rank_by: str
    """The column that rows are ordered by."""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a row of figures is of; figures of one identity and column are averaged."""

    corpus: str
    system: str
    size: str
    detail: str = ""
    """Which of a system's embeddings, and the like."""
    runs: str = ""
    """Folder whose runs of one system are averaged, or the name of a single one."""
    mini: bool = False
    published: bool = False

    @property
    def label(self) -> str:
        """Name the system for people."""
        return f"{self.system}, {self.detail}" if self.detail else self.system


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number and where it is from."""

    section: str
    identity: Identity
    column: str
    value: float
    source: str
    """Who says so, or the result file's name."""
    link: str
    """Address, or path relative to the leaderboard."""
    note: str = ""
    """Shown behind the figure."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as shown: the mean of a system's runs."""

    value: float
    spread: float | None
    """Sample standard deviation of several runs."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system's figures."""

    identity: Identity
    cells: Mapping[str, Cell]


def rows_of(section: Section, figures: Iterable[Figure]) -> list[Row]:
    """Put figures into rows, in the order of the corpora and, within one, of merit."""
    grouped: dict[Identity, dict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for one in figures:
        if one.section == section.name:
            grouped[one.identity][one.column].append(one)
    rows = []
    for identity, by_column in grouped.items():
        cells = {
            column.name: _cell(by_column[column.name])
            for column in section.columns
            if column.name in by_column
        }
        rows.append(Row(identity=identity, cells=cells))
    best = section.column(section.rank_by)

    def order(row: Row) -> tuple:
        cell = row.cells.get(best.name)
        sign = 1 if best.lower_is_better else -1
        who = row.identity
        merit = sign * cell.value if cell else 0.0
        return (who.corpus, cell is None, merit, who.label, who.size, who.runs)

    return sorted(rows, key=order)


def _cell(figures: list[Figure]) -> Cell:
    values = [one.value for one in figures]
    return Cell(
        value=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        figures=tuple(figures),
    )


def shown(cell: Cell, column: Column) -> str:
    """Write a cell: the figure, and with several runs their spread."""
    text = f"{cell.value:.{column.digits}f}"
    if cell.spread is not None:
        text += f" ± {cell.spread:.{column.digits}f}"
    note = cell.figures[0].note
    return f"{text} ({note})" if note else text
