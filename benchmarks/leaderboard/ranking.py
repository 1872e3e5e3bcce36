"""The data frame of figures: its rows, and how they rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ..shared.board import Section

COMPARABLE, OWN, MINI = "comparable", "own", "mini"
"""Parts of the board."""
IDENTITY = ["section", "corpus", "system", "detail", "size", "run", "take", "part", "published"]
"""Columns that make a row; figures of one row and column are averaged."""
DEFAULTS: Mapping[str, Any] = {
    **dict.fromkeys(("section", "corpus", "system", "detail", "size", "run", "column"), ""),
    **dict.fromkeys(("checkpoint", "fold", "folder", "file", "note", "source", "link"), ""),
    **dict.fromkeys(("seed", "take", "steps", "planned"), 0),
    **dict.fromkeys(("published", "baseline"), False),
    "part": COMPARABLE,
    "value": math.nan,
}
"""Fields of a figure; 0 steps: unknown."""
LISTED = ["note", "source", "link", "steps", "planned"]
"""Columns of a cell that list its figures."""
ROW = [*IDENTITY, "runs"]


def name_runs(figures: pd.DataFrame) -> None:
    """Number runs that are not seeds of one another, as `take`, and name them, as `runs`.

    A row's runs are named by their folder; where they lie in several, or several rows' lie in one,
    by their checkpoint.
    """
    # The same checkpoint and seed again, such as with other options, is no other run of the row.
    figures["take"] = figures.groupby([*IDENTITY, "column", "checkpoint", "seed"]).cumcount()
    alone = figures.groupby(IDENTITY).folder.transform("nunique") == 1
    figures["runs"] = figures.folder.where(alone, figures.run)
    figures["runs"] = figures.runs.where(figures["take"] == 0, figures.file)
    shared = ["section", "corpus", "system", "detail", "size", "part", "runs"]
    several = figures.groupby(shared).run.transform("nunique") > 1
    names = figures.runs + "/" + figures.run.str.rpartition("/")[2]
    figures["runs"] = figures.runs.mask(several, names)


def ranked(section: Section, figures: pd.DataFrame) -> pd.DataFrame:
    """Return a section's cells, ordered by corpus, then by merit, then by column.

    A cell is the mean `value` of a system's runs and their standard deviation `spread`; the
    columns of `LISTED` list its figures.
    """
    places = {column.name: place for place, column in enumerate(section.columns)}
    part = figures[(figures.section == section.name) & figures.column.isin(places)]
    if part.empty:
        return part
    means = {"value": ("value", "mean"), "spread": ("value", "std"), "values": ("value", list)}
    lists = {name: (name, list) for name in LISTED}
    cells = part.groupby([*ROW, "column"], sort=False).agg(**means, **lists).reset_index()
    (best,) = (column for column in section.columns if column.name == section.rank_by)
    merit = cells[cells.column == best.name].set_index(ROW).value
    cells = cells.join(merit.mul(1 if best.lower_is_better else -1).rename("merit"), on=ROW)
    cells["label"] = cells.system.where(cells.detail == "", cells.system + ", " + cells.detail)
    cells["place"] = cells.column.map(places)
    order = ["corpus", "merit", "label", "size", "runs", "run", "take", "published", "place"]
    return cells.sort_values(order, ignore_index=True)


def rows_of(cells: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the identity of each row, and its cells by column."""
    if not cells.empty:
        for who, row in cells.groupby(ROW, sort=False):
            yield dict(zip(ROW, who, strict=True)), row.set_index("column")
