"""The leaderboard as one HTML file that needs nothing else: sorted and filtered in the browser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any
from urllib.parse import quote

from .leaderboard_sections import SECTIONS
from .leaderboard_tables import Column, Figure, Row, Section, rows_of, shown

TEMPLATE = "leaderboard.html"
MARK = "{{leaderboard}}"


def page(figures: Iterable[Figure]) -> str:
    """Fill the page with figures."""
    template = resources.files("s3prl_speechclip.benchmarks") / TEMPLATE
    known = tuple(figures)
    data = [_section(section, rows_of(section, known)) for section in SECTIONS]
    text = json.dumps([one for one in data if one["rows"]], ensure_ascii=False, indent=1)
    # A name must not end the script that holds it.
    return template.read_text(encoding="utf-8").replace(MARK, text.replace("<", "\\u003c"))


def _section(section: Section, rows: Iterable[Row]) -> dict[str, Any]:
    listed = list(rows)
    return {
        "name": section.name,
        "title": section.title,
        "about": section.about,
        "bars": section.name == "superb",
        "columns": [
            {
                "name": column.name,
                "title": column.heading,
                "lower": column.lower_is_better,
                "merit": column.merit,
            }
            for column in section.columns
            if any(column.name in row.cells for row in listed)
        ],
        "rows": [_row(section, row) for row in listed],
    }


def _row(section: Section, row: Row) -> dict[str, Any]:
    who = row.identity
    return {
        "corpus": who.corpus,
        "system": who.label,
        "size": who.size,
        "runs": who.runs,
        "mini": who.mini,
        "published": who.published,
        "cells": {
            column.name: _cell(row, column)
            for column in section.columns
            if column.name in row.cells
        },
    }


def _cell(row: Row, column: Column) -> dict[str, Any]:
    cell = row.cells[column.name]
    return {
        "value": round(cell.value, 6),
        "text": shown(cell, column),
        "sources": [[one.source, _address(one.link)] for one in cell.figures],
    }


def _address(link: str) -> str:
    return link if link.startswith("https://") else quote(link)
