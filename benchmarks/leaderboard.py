"""The leaderboard: results and published figures in one table each, miniatures in their own."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_speechclip.data.cache import writing

from .leaderboard_page import page
from .leaderboard_published import published_figures
from .leaderboard_results import result_figures
from .leaderboard_sections import SECTIONS
from .leaderboard_tables import Column, Figure, Identity, Row, Section, rows_of, shown
from .superb_score import PUBLISHED, partial_superb_score, reference_points, superb_score

__all__ = ["Leaderboard", "gather", "partial_superb_score", "superb_score", "write_leaderboard"]

TABLE, SHEET, PAGE = "LEADERBOARD.md", "leaderboard.csv", "leaderboard.html"
COMPUTED = "superb_score of the row"
INTRODUCTION = """\
# Leaderboard

Made by `python run_benchmark.py leaderboard` from the result files beside it and the published
figures in [published]({published}/README.md); [leaderboard.csv](leaderboard.csv) has every figure
with its source, [leaderboard.html](leaderboard.html) the same to sort and filter. A system's name
links to where its figures are from. "±" is the standard deviation over several runs of a system.
"""
MINIATURES = """\
# Miniatures

Results of mini models or on mini corpora, by themselves: not comparable with published figures.
"""
SHEET_HEAD = (
    "section",
    "kind",
    "corpus",
    "system",
    "detail",
    "size",
    "runs",
    "figure",
    "value",
    "note",
    "source",
    "link",
)


@dataclass(frozen=True)
class Leaderboard:
    """Everything that is shown."""

    figures: tuple[Figure, ...]
    left_out: tuple[str, ...]
    """A line for each result that no table has a place for."""

    def rows(self, section: Section, mini: bool) -> list[Row]:
        """Give a table's rows: miniatures, or everything else."""
        return [r for r in rows_of(section, self.figures) if r.identity.mini == mini]


def gather(folders: Sequence[Path], home: Path) -> Leaderboard:
    """Read published tables and result files.

    Args:
        folders: of results.
        home: the leaderboard's folder, which links start from.

    Raises:
        ResultError: a file is damaged, of another format, or lacks a metric.
    """
    own, left_out = result_figures(folders, home)
    figures = [*published_figures(home), *own]
    return Leaderboard((*figures, *_superb_scores(figures), *_mean_recalls(figures)), left_out)


def write_leaderboard(
    board: Leaderboard, home: Path, html: Path | None = None
) -> tuple[Path, Path, Path]:
    """Write the tables as Markdown, CSV and a page; equal figures give equal files.

    Args:
        board: what is shown.
        home: folder of the files; made.
        html: the page's own place.

    Raises:
        CorpusError: the folder cannot be written.
    """
    paths = home / TABLE, home / SHEET, html or home / PAGE
    texts = markdown(board, home), sheet(board), page(board.figures)
    with writing(home):
        for path, text in zip(paths, texts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return paths


def markdown(board: Leaderboard, home: Path) -> str:
    """Lay the leaderboard out as Markdown for a folder."""
    introduction = INTRODUCTION.format(published=os.path.relpath(PUBLISHED, home))
    parts = [introduction, *_tables(board, mini=False), MINIATURES, *_tables(board, mini=True)]
    if board.left_out:
        parts.append("\n".join(["# Left out", "", *(f"- {line}" for line in board.left_out), ""]))
    return "\n".join(parts)


def sheet(board: Leaderboard) -> str:
    """Lay every figure out as a line of CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(SHEET_HEAD)
    for section in SECTIONS:
        for mini in (False, True):
            for row in board.rows(section, mini):
                for column, cell in row.cells.items():
                    for one in cell.figures:
                        table.writerow(_line(section, row.identity, column, one))
    return text.getvalue()


def _line(section: Section, who: Identity, column: str, one: Figure) -> tuple[str, ...]:
    kind = "published" if who.published else "mini" if who.mini else "own"
    return (
        section.name,
        kind,
        who.corpus,
        who.system,
        who.detail,
        who.size,
        who.runs,
        column,
        f"{one.value:.6g}",
        one.note,
        one.source,
        one.link,
    )


def _tables(board: Leaderboard, *, mini: bool) -> list[str]:
    tables = []
    for section in SECTIONS:
        rows = board.rows(section, mini)
        if not rows:
            continue
        # A column that no row has says nothing.
        columns = [c for c in section.columns if any(c.name in row.cells for row in rows)]
        head = ("corpus", "system", "size", "runs", *(_head(column) for column in columns))
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * 4 + "--:|" * len(columns)]
        for row in rows:
            who = row.identity
            cells = [shown(row.cells[c.name], c) if c.name in row.cells else "" for c in columns]
            first = next(iter(row.cells.values())).figures[0]
            name = f"[{_plain(who.label)}]({first.link})"
            runs = max(len(cell.figures) for cell in row.cells.values())
            about = (_plain(who.corpus), name, who.size, _runs(who, runs))
            lines.append(f"| {' | '.join((*about, *cells))} |")
        tables.append("\n".join([f"## {section.title}", "", section.about, "", *lines, ""]))
    return tables


def _head(column: Column) -> str:
    return column.heading + (" ↓" if column.lower_is_better else "")


def _runs(who: Identity, count: int) -> str:
    return f"{count} in {who.runs}" if count > 1 else who.runs


def _plain(text: str) -> str:
    """Keep a name from being read as Markdown."""
    return text.replace("|", "\\|").replace("[", "\\[").replace("_", "\\_").replace("<", "&lt;")


def _mean_recalls(figures: Iterable[Figure]) -> list[Figure]:
    """Average both directions where a publication gives them and not their mean."""
    section = next(one for one in SECTIONS if one.name == "retrieval")
    found = []
    for row in rows_of(section, figures):
        for k in (1, 5, 10):
            both = [row.cells.get(f"{direction} R@{k}") for direction in ("S2I", "I2S")]
            cells = [cell for cell in both if cell is not None]
            if len(cells) == len(both) and f"mean R@{k}" not in row.cells:
                found.append(
                    Figure(
                        section="retrieval",
                        identity=row.identity,
                        column=f"mean R@{k}",
                        value=sum(cell.value for cell in cells) / len(cells),
                        source=f"mean of the row's two directions; {cells[0].figures[0].source}",
                        link=cells[0].figures[0].link,
                    )
                )
    return found


def _superb_scores(figures: Iterable[Figure]) -> list[Figure]:
    """Score the systems that have figures of SUPERB's own corpora."""
    section = next(one for one in SECTIONS if one.name == "superb")
    found = []
    for row in rows_of(section, figures):
        if row.identity.mini or "superb_s" in row.cells:
            continue
        scores: dict[str, dict[str, float]] = defaultdict(dict)
        for task, metrics in reference_points().items():
            names = {m: task if len(metrics) == 1 else f"{task}_{m}" for m in metrics}
            if all(name in row.cells for name in names.values()):
                scores[task] = {m: row.cells[name].value for m, name in names.items()}
        if not scores:
            continue
        score = partial_superb_score(scores)
        whole = len(score.tasks) == len(reference_points())
        found.append(
            Figure(
                section="superb",
                identity=row.identity,
                column="superb_s" if whole else "partial",
                value=score.value,
                source=COMPUTED,
                link=next(iter(row.cells.values())).figures[0].link,
                note="" if whole else ", ".join(score.tasks),
            )
        )
    return found
