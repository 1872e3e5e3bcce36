"""From the data frame to Markdown, CSV and a page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.results import markdown_table

from ..pages import fill
from ..shared.board import Column, Section
from .figures import Board
from .published import PUBLISHED
from .ranking import COMPARABLE, MINI, OWN, ranked, rows_of
from .sections import LAYOUT, PAGE, SHEET, TABLE, all_sections


def shown(cell: Any, column: Column, *, note: bool = True) -> str:
    """Return the text of a cell: its value, with several runs their spread, and its note."""
    text = f"{cell.value:.{column.digits}f}"
    if len(cell["values"]) > 1:
        text += f" ± {cell.spread:.{column.digits}f}"
    return f"{text} ({cell.note[0]})" if note and cell.note[0] else text


def steps_shown(row: pd.DataFrame) -> str:
    """Return the training steps of a row, and whether they are not the protocol's."""
    steps = {n for cell in row.steps for n in cell if n}
    if not steps:
        return ""
    text = f"{min(steps):,}" + (f" to {max(steps):,}" if len(steps) > 1 else "")
    shortened = (row.steps.explode() < row.planned.explode()).any()
    return f"{text}, shortened" if shortened else text


def markdown(board: Board, home: Path) -> str:
    """Return the leaderboard as Markdown for a folder."""
    parts = []
    for name, heading in LAYOUT["parts"].items():
        figures = board.figures[board.figures.part == name]
        if len(figures) or name != OWN:
            parts.append(heading.format(published=os.path.relpath(PUBLISHED, home)))
        tables = [(section, ranked(section, figures)) for section in all_sections().values()]
        parts += [
            f"## {section.title}\n\n{section.about}\n\n{_table(section, cells)}\n"
            for section, cells in tables
            if not cells.empty
        ]
    if board.left_out:
        lines = (f"- {_line(line)}" for line in board.left_out)
        parts.append("\n".join(["# Left out", "", *lines, ""]))
    return "\n".join(parts)


def _table(section: Section, cells: pd.DataFrame) -> str:
    # A column that no row has says nothing.
    columns = [column for column in section.columns if column.name in set(cells.column)]
    heads = [column.heading + (" ↓" if column.lower_is_better else "") for column in columns]
    trained = cells.steps.map(any).any()
    rows = []
    for who, row in rows_of(cells):
        rows.append(
            (
                _plain(who["corpus"]),
                f"[{_plain(row.label.iloc[0])}]({row.link.iloc[0][0]})",
                _line(who["size"]),
                _line(runs_shown(who, row)),
                *([steps_shown(row)] if trained else []),
                *(shown(row.loc[c.name], c) if c.name in row.index else "" for c in columns),
            )
        )
    head = ("corpus", "system", "size", "runs", *(["steps"] if trained else []), *heads)
    return markdown_table(head, rows, numbers=len(columns), even=False)


def runs_shown(who: Mapping[str, Any], row: pd.DataFrame) -> str:
    """Return the name of a row's runs, and their number where there are several."""
    runs = row["values"].map(len).max()
    return f"{runs} in {who['runs']}" if runs > 1 else who["runs"]


def _plain(text: str) -> str:
    """Escape a name, so that Markdown shows it as it is."""
    return _line(re.sub(r"([\[\]_*`])", r"\\\1", text))


def _line(text: str) -> str:
    """Keep a text within one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def sheet(board: Board) -> str:
    """Return every figure as a line of CSV."""
    tables = [
        ranked(section, board.figures[board.figures.part == part])
        for section in all_sections().values()
        for part in LAYOUT["parts"]
    ]
    figure = ["values", "note", "source", "link"]
    who = ["section", "kind", "corpus", "system", "detail", "size", "runs", "column"]
    lines = pd.concat([table for table in tables if not table.empty]).explode(figure)
    lines["kind"] = lines.part.replace(COMPARABLE, "own").mask(lines.published, "published")
    lines["values"] = lines["values"].map("{:.6g}".format)
    lines = lines[[*who, *figure]].rename(columns={"column": "figure", "values": "value"})
    return lines.to_csv(index=False, lineterminator="\n")


def page(board: Board) -> str:
    """Return the leaderboard as an HTML file that sorts and filters in the browser."""
    data = []
    for section in all_sections().values():
        cells = ranked(section, board.figures)
        columns = {c.name: c for c in section.columns if c.name in set(cells.column)}
        rows = [
            {
                **{name: who[name] for name in ("corpus", "size", "part", "published")},
                "system": row.label.iloc[0],
                "runs": runs_shown(who, row),
                "steps": steps_shown(row),
                "cells": {
                    name: {
                        "value": round(float(cell.value), 6),
                        "text": shown(cell, columns[name], note=False),
                        "note": cell.note[0],
                        "sources": list(zip(cell.source, cell.link, strict=True)),
                    }
                    for name, cell in row.iterrows()
                },
            }
            for who, row in rows_of(cells)
        ]
        headings = [
            {"name": c.name, "title": c.heading, "lower": c.lower_is_better, "merit": c.merit}
            for c in columns.values()
        ]
        about = {"name": section.name, "title": section.title, "about": section.about}
        bars = section.name == "superb"
        data.append({**about, "bars": bars, "columns": headings, "rows": rows})
    introductions = {part: LAYOUT["parts"][part].lstrip("# ").split("\n\n") for part in (OWN, MINI)}
    return fill("leaderboard.html", {"sections": data, "parts": introductions})


def write_leaderboard(board: Board, home: Path, html: Path | None = None) -> tuple[Path, ...]:
    """Write Markdown, CSV and page (which may have its own place) into a folder.

    Raises:
        CorpusError: the folder cannot be written.
    """
    texts = {home / TABLE: markdown(board, home), home / SHEET: sheet(board)}
    texts[html or home / PAGE] = page(board)
    with writing(home):
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return tuple(texts)
