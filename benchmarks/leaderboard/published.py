"""Published tables, read row by row."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).parents[1] / "published"
TEXTS = {"system", "size", "source", "address", "dataset", "direction", "metric", "task"}
"""Columns of published tables that hold no numbers."""


def read_published(name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Read a published table; a row that is damaged is left out.

    Returns:
        Rows with texts and numbers, without empty cells, and a line (file, line, field) for each
        that is left out.
    """
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    place = f"published/{name}"
    try:
        lines = (PUBLISHED / name).read_text(encoding="utf-8-sig").splitlines(keepends=True)
        table = csv.DictReader(lines, strict=True)
        for cells in table:
            place = f"published/{name} line {table.line_num}"
            row: dict[str, Any] = {}
            for field, text in cells.items():
                if field is None:
                    wrong.append(f"{place}, field '{text[0]}': the header has no more fields")
                    break
                if text is None:
                    wrong.append(f"{place}, field '{field}': it is missing")
                    break
                try:
                    row[field] = text if field in TEXTS else _finite(text) if text else None
                except ValueError:
                    wrong.append(f"{place}, field '{field}': '{text}' is no number")
                    break
            else:
                rows.append({field: value for field, value in row.items() if value is not None})
    except (OSError, ValueError, csv.Error) as error:
        wrong.append(f"{place}: {error}")
    return rows, wrong


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError
    return float(text)
