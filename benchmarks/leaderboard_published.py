"""The leaderboard's published figures, read from the tables in `published/`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from s3prl_speechclip.errors import ResultError

from .leaderboard_tables import Figure, Identity
from .superb_score import PUBLISHED

SUPERB, HIDDEN, ZEROSPEECH = "SUPERB", "SUPERB hidden set", "ZeroSpeech 2021"
SOURCES = "sources.csv"
ABOUT = ("dataset", "system", "size", "source", "direction", "metric", "step")
"""Columns that hold no figure."""

WIDE = {
    "superb": ("superb.csv", SUPERB),
    "superb_hidden": ("superb_hidden.csv", HIDDEN),
    "keywords": ("keywords.csv", ""),
    "zerospeech": ("zerospeech2021_semantic.csv", ZEROSPEECH),
}
"""Tables with the leaderboard's own columns: file and corpus, by section."""


def published_figures(home: Path, folder: Path = PUBLISHED) -> list[Figure]:
    """Read the published tables.

    Args:
        home: the leaderboard's folder, which links start from.
        folder: of the tables.

    Raises:
        ResultError: a table is missing, a cell is no number, or a source is not listed.
    """
    addresses = {row["source"]: row["address"] for row in _rows(folder / SOURCES)}
    figures = []
    for section, path, corpus, row, column, text in _cells(folder):
        if row["source"] not in addresses:
            raise ResultError(
                f"'{path}' has the source '{row['source']}', which '{folder / SOURCES}' does not "
                "list; add it"
            )
        if not text:
            continue
        try:
            value = float(text)
        except ValueError as error:
            raise ResultError(
                f"'{path}' has '{text}' for {column} of {row['system']}, expected a number"
            ) from error
        figures.append(
            Figure(
                section=section,
                identity=Identity(
                    corpus=row.get("dataset") or corpus,
                    system=row["system"],
                    size=row.get("size", ""),
                    published=True,
                ),
                column=column,
                value=value,
                source=row["source"],
                link=addresses[row["source"]] or os.path.relpath(path, home),
            )
        )
    return figures


Cell = tuple[str, Path, str, Mapping[str, str], str, str]


def _cells(folder: Path) -> Iterator[Cell]:
    for section, (name, corpus) in WIDE.items():
        for row in _rows(folder / name):
            for column, text in row.items():
                if column not in ABOUT:
                    yield section, folder / name, corpus, row, column, text
    path = folder / "retrieval.csv"
    for row in _rows(path):
        for k in (1, 5, 10):
            yield "retrieval", path, "", row, f"{row['direction']} R@{k}", row[f"r{k}"]
    path = folder / "retrieval_validation.csv"
    for row in _rows(path):
        yield "retrieval_validation", path, "", row, row["metric"], row["value"]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))
    except OSError as error:
        raise ResultError(f"cannot read '{path}': {error.strerror}") from error
