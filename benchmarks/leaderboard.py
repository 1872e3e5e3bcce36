"""Results and published figures in one table a benchmark, miniatures in their own.

All figures are one data frame, a figure a row; a table is what is left of it after filtering by
section, grouping by system and ranking.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pandas as pd

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.downstream.settings import config_folder
from s3prl_speechclip.downstream.task import all_tasks
from s3prl_speechclip.errors import ResultError, unknown_name
from s3prl_speechclip.results import markdown_table, read_result
from s3prl_speechclip.structures import TaskResult

from .pages import fill
from .shared.benchmark import TRAINING_STEPS, Benchmark, benchmark_titles, load_benchmark
from .shared.board import CHANCE, KS, Column, Figure, Section, recall_figures

logger = logging.getLogger(__name__)

THIS = "leaderboard"
PUBLISHED = Path(__file__).parent / "published"
SECTIONS = Path(__file__).parent / "sections.yaml"
COMMITTED = Path("benchmarks") / "results"
TABLE, SHEET, PAGE = "LEADERBOARD.md", "leaderboard.csv", "leaderboard.html"
SUPERB, HIDDEN, ZEROSPEECH = "SUPERB", "SUPERB hidden set", "ZeroSpeech 2021"
MINI_SETS = "mini sets"
CORPORA = {"flickr8k": "Flickr8k", "spokencoco": "SpokenCOCO", "zerospeech2021": ZEROSPEECH}
"""Corpora of published tables, as those spell them."""
TABLES = {
    "superb": ("superb.csv", SUPERB),
    "superb_hidden": ("superb_hidden.csv", HIDDEN),
    "keywords": ("keywords.csv", ""),
    "zerospeech": ("zerospeech2021_semantic.csv", ZEROSPEECH),
    "zerospeech_abx": ("zerospeech2021_abx.csv", ZEROSPEECH),
    "retrieval": ("retrieval.csv", ""),
    "retrieval_validation": ("retrieval_validation.csv", ""),
}
"""Published table of each section, and its corpus where the table names none."""
IDENTITY = ["section", "corpus", "system", "detail", "size", "runs", "mini", "published"]
"""Columns that make a row; figures of one row and column are averaged."""
PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("detail", "size", "runs", "note"), ""),
    **dict.fromkeys(("mini", "published"), False),
    **dict.fromkeys(("steps", "planned"), 0),
}
"""Defaults of a figure; 0 steps: unknown."""
ONE_FIGURE = ["values", "note", "source", "link"]
OWN = "own ("  # begins the name of a corpus of the user's, see `Corpus.public_name`
TRAINED = 50_000  # steps of the papers' models

INTRODUCTION = """\
# Leaderboard

Made by `python run_benchmark.py leaderboard` from the result files beside it and the published
figures in [published]({published}/README.md). The same command writes `leaderboard.csv`, every
figure with its source, and `leaderboard.html`, the tables to sort and filter. A system's name
links to where its figures are from. "±" is the standard deviation over several runs of a system.
"""
OWN_CORPORA = """\
# Own corpora

Results on recordings of users in the layout of a published corpus, by themselves: not comparable
with its published figures.
"""
MINIATURES = """\
# Miniatures

Results of mini models or on mini corpora, by themselves: not comparable with published figures.
"""


# SUPERB


@cache
def reference_points() -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """Return the published values that are scaled to 0 and 1000, by task and metric."""
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in _published_rows("superb_reference_points.csv"):
        points[row["task"]][row["metric"]] = float(row["base"]), float(row["top"])
    return MappingProxyType(dict(points))


def superb_score(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Return superb_s: 1000 x (value - base) / (top - base), mean within a task, then over tasks.

    `base` and `top` are the values of two systems on SUPERB's leaderboard.

    Args:
        scores: percent by task and metric, of all metrics of all ten tasks, such as
            `{"PR": {"PER": 5.41}, ..}`.

    Raises:
        ResultError: a task or metric that is missing, unknown or no number.
    """
    missing = [task for task in reference_points() if task not in scores]
    if missing:
        raise ResultError(
            f"superb_s needs all ten tasks, these are missing: {', '.join(missing)}; "
            "partial_superb_score scores the others"
        )
    return partial_superb_score(scores)


def partial_superb_score(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Return the score of some tasks, computed as superb_s; comparable over the same tasks only.

    Raises:
        ResultError: no task; a task that lacks a metric; what is unknown or no number.
    """
    points = reference_points()
    if not scores:
        raise ResultError("a score needs the metrics of a task, found none")
    for task, metrics in scores.items():
        if task not in points:
            raise ResultError(unknown_name("SUPERB task", task, points))
        for metric, value in metrics.items():
            if metric not in points[task]:
                raise ResultError(unknown_name(f"metric of {task}", metric, points[task]))
            if not math.isfinite(value):
                raise ResultError(f"SUPERB's {task} {metric} is {value}, expected a number")
        for metric in points[task]:
            if metric not in metrics:
                raise ResultError(
                    f"SUPERB's {task} has no {metric}, which its score needs; measure it"
                )
    tasks = []
    for task in (task for task in points if task in scores):
        ends = points[task].items()
        scaled = [1000.0 * (scores[task][m] - base) / (top - base) for m, (base, top) in ends]
        tasks.append(sum(scaled) / len(scaled))
    return sum(tasks) / len(tasks)


# Sections that are no benchmark's own


TASKS = {task.name: task for task in all_tasks() if any(m.column for m in task.metrics)}
"""Downstream tasks with leaderboard columns. Of SUPERB's ten, emotion has none, whose figure is a
mean over five folds, nor has diarization, whose error rate another program computes."""
PROBES = {
    "frame_accuracy": ("phones", "frame_accuracy"),
    "phone_error": ("phones", "phone_error"),
    "purity": ("phones", "purity"),
    "phrases": ("phrases", "accuracy"),
    "words": ("words", "accuracy"),
}
PROBE_CHANCE = {"frame_accuracy": "phones", "phrases": "phrases", "words": "words"}


def superb_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a SUPERB task."""
    if result.corpus.endswith("_mini"):
        corpus = MINI_SETS
    else:  # another edition of a corpus stands apart
        corpus = SUPERB if result.corpus == result.task else result.corpus
    task = TASKS[result.task]
    for metric in task.metrics:
        keys = (task.test, metric.key)
        yield Figure(column=metric.column, keys=keys, corpus=corpus, factor=metric.to_percent)


def probe_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a speech encoder's probes; features that are no layer are baselines."""
    for column, (probe, metric) in PROBES.items():
        for features in result.metrics.get(probe, ()):
            own = "/" in features
            yield Figure(
                column=column,
                keys=(probe, features, metric),
                detail=features if own else "",
                baseline="" if own else features,
            )
    for column, probe in PROBE_CHANCE.items():
        if probe in result.metrics:
            yield Figure(column=column, keys=(CHANCE, probe), baseline=CHANCE)


def image_text_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a CLIP's retrieval between images and captions."""
    directions = {"T2I": "text_to_image", "I2T": "image_to_text", "mean": "mean"}
    return recall_figures(result.metrics, ("trained", "untrained"), directions)


FIGURES: Mapping[str, Callable[[TaskResult], Iterable[Figure]]] = {
    "superb": superb_figures,
    "image_text": image_text_figures,
    "probe": probe_figures,
}
ORDER = (
    *("superb", "superb_hidden", "retrieval", "retrieval_validation", "keywords", "words"),
    *("zerospeech", "zerospeech_abx", "image_text", "probe", "speed"),
)
"""Order of the sections that are known; others come after them."""


def own_sections() -> Iterator[Section]:
    """Read the sections that no benchmark declares; further tasks come before SUPERB's score."""
    measured = {m.column: not m.higher_is_better for t in TASKS.values() for m in t.metrics}
    for name, values in read_yaml(SECTIONS).items():
        columns, every = values.pop("columns"), values.pop("every", {})
        if name == "superb":
            scores = {score: columns.pop(score) for score in ("superb_s", "partial")}
            for column, lower in measured.items():
                columns.setdefault(column, {})["lower_is_better"] = lower
            columns |= scores
        yield Section(
            name=name,
            columns=tuple(Column(name=c, **{**every, **own}) for c, own in columns.items()),
            figures=FIGURES.get(name),
            **values,
        )


@cache
def all_sections() -> Mapping[str, Section]:
    """Return the sections by name: this module's own, and those that benchmarks declare."""
    found = {section.name: section for section in own_sections()}
    for name in benchmark_titles():
        section = None if name == THIS else load_benchmark(name).section
        if section is not None:
            found[section.name] = section
    places = {name: place for place, name in enumerate(ORDER)}
    return {name: found[name] for name in sorted(found, key=lambda n: places.get(n, len(places)))}


def section_of(task: str) -> Section | None:
    """Return the section that shows the results of a task."""
    name = {**dict.fromkeys(TASKS, "superb"), "image_text_retrieval": "image_text"}.get(task, task)
    return all_sections().get(name)


# From files to a data frame


@dataclass(frozen=True)
class Board:
    """Everything that is shown."""

    figures: pd.DataFrame
    """A figure a row: `IDENTITY`, column, value, note, source and link."""
    left_out: tuple[str, ...]
    """A line for each result file that cannot be used."""


def gather(folders: Sequence[Path], home: Path) -> Board:
    """Read published tables and result files.

    Args:
        folders: folders of results, read to the bottom.
        home: folder of the leaderboard, which links start from.

    Raises:
        ResultError: there is no such folder.
    """
    own, left_out = result_figures(folders, home)
    figures = pd.DataFrame([*published_figures(home), *own])
    # Every result holds the chance of its corpus, which is no run.
    chance = (figures.system == CHANCE) & figures.duplicated([*IDENTITY, "column"])
    figures = figures[~chance]
    derived = [*superb_scores(figures), *mean_recalls(figures)]
    return Board(pd.concat([figures, pd.DataFrame(derived)], ignore_index=True), tuple(left_out))


def published_figures(home: Path) -> Iterator[dict[str, Any]]:
    """Read the published tables; links start from `home`."""
    addresses = {row["source"]: row["address"] for row in _published_rows("sources.csv")}
    for section, (name, corpus) in TABLES.items():
        path = os.path.relpath(PUBLISHED / name, home)
        for row in _published_rows(name):
            about = {key: row.pop(key, "") for key in ("dataset", "system", "size", "source")}
            if section == "retrieval":
                row = {f"{row['direction']} R@{k}": row[f"r{k}"] for k in KS}
            elif section == "retrieval_validation":
                row = {row["metric"]: row["value"]}
            for column, text in row.items():
                if text:
                    yield {
                        **PLAIN,
                        "section": section,
                        "corpus": about["dataset"] or corpus,
                        "system": about["system"],
                        "size": about["size"],
                        "published": True,
                        "column": column,
                        "value": float(text),
                        "source": about["source"],
                        "link": addresses[about["source"]] or path,
                    }


def _published_rows(name: str) -> list[dict[str, str]]:
    with open(PUBLISHED / name, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def result_figures(folders: Sequence[Path], home: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read all result files below folders; the same result counts once in a folder.

    JSON files that are no results, such as configurations of checkpoints, are passed over.

    Args:
        folders: folders of results.
        home: folder of the leaderboard, which links start from.

    Returns:
        The figures, and a line for each result that cannot be used.

    Raises:
        ResultError: there is no such folder.
    """
    figures: list[dict[str, Any]] = []
    left_out: list[str] = []
    seen: set[tuple] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ResultError(f"there is no folder of results '{folder}'; name another")
        for path in sorted(folder.rglob("*.json")):
            link = os.path.relpath(path, home)
            try:
                if not _is_result(path):
                    continue
                result = read_result(path)
                inner = path.parent.relative_to(folder).as_posix()
                about = (inner, result.task, result.system, result.size, result.corpus)
                same = (*about, result.checkpoint_hash, result.seed, repr(result.metrics))
                if same not in seen:
                    seen.add(same)
                    figures += _figures_of(result, path, "" if inner == "." else inner, link)
            except ResultError as error:
                left_out.append(f"{link}: {error}")
                logger.warning("left out: %s", left_out[-1])
    return figures, left_out


def _is_result(path: Path) -> bool:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"it cannot be read ({error}); measure again") from error
    return isinstance(values, Mapping) and {"task", "metrics"} <= values.keys()


def _figures_of(result: TaskResult, path: Path, folder: str, link: str) -> list[dict[str, Any]]:
    """Return the figures of a result.

    Raises:
        ResultError: the file is damaged, lacks a metric, or is of a task without a section.
    """
    section = section_of(result.task)
    if section is None or section.figures is None:
        raise ResultError(f"no table for the task '{result.task}'")
    try:
        found = list(section.figures(result))
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultError(f"its metrics are not those of {result.task} ({error!r})") from error
    if not found:
        raise ResultError(f"it has no metrics; measure {result.task} again")
    return [_row(section, result, one, path, folder, link) for one in found]


def _row(
    section: Section, result: TaskResult, one: Figure, path: Path, folder: str, link: str
) -> dict[str, Any]:
    corpus = CORPORA.get(result.corpus, result.corpus)
    if one.split not in ("", "test"):
        corpus = f"{corpus} {one.split}"
    return {
        **PLAIN,
        "section": section.name,
        "corpus": one.corpus or corpus,
        "system": one.baseline or result.system,
        "detail": one.detail,
        "size": "" if one.baseline else result.size,
        # Folder, as its runs are averaged, or the name of a single result.
        "runs": "" if one.baseline else folder or ("" if one.corpus else path.stem),
        "mini": result.mini,
        "column": one.column,
        "value": one.factor * _number(result, one.keys),
        "source": path.name,
        "link": link,
        **({} if one.baseline else _steps(result)),
    }


def _steps(result: TaskResult) -> dict[str, int]:
    """Return the training steps of a result, where known, and those of the published protocol."""
    task = TASKS.get(result.task)
    steps = result.protocol.get("steps" if task else TRAINING_STEPS)
    if not isinstance(steps, int):
        return {}
    return {"steps": steps, "planned": _superb_steps(task.name) if task else TRAINED}


@cache
def _superb_steps(task: str) -> int:
    return int(read_yaml(config_folder() / f"{task}.yaml")["runner"]["total_steps"])


def _number(result: TaskResult, keys: Sequence[str]) -> float:
    value: Any = result.metrics
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        else:
            value = value[int(key)] if isinstance(value, list) and key.isdigit() else None
    name = ".".join(keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "nothing" if value is None else repr(value)
        raise ResultError(f"it has no metric '{name}' (found {found}); measure {result.task} again")
    if not math.isfinite(value):
        raise ResultError(f"its metric '{name}' is {value}; measure {result.task} again")
    return float(value)


def mean_recalls(figures: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Average both directions where a publication gives them and not their mean."""
    for who, row in rows_of(ranked(all_sections()["retrieval"], figures)):
        for k in KS:
            both = [f"{direction} R@{k}" for direction in ("S2I", "I2S")]
            if f"mean R@{k}" in row.index or not set(both) <= set(row.index):
                continue
            source = f"mean of the row's two directions; {row.source[both[0]][0]}"
            yield {
                **PLAIN,
                **who,
                "column": f"mean R@{k}",
                "value": row.value[both].mean(),
                "source": source,
                "link": row.link[both[0]][0],
            }


def superb_scores(figures: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Score the systems that have figures of SUPERB's own corpora."""
    points = reference_points()
    for who, row in rows_of(ranked(all_sections()["superb"], figures)):
        if who["mini"] or "superb_s" in row.index:
            continue
        scores = {}
        for task, metrics in points.items():
            names = {m: task if len(metrics) == 1 else f"{task}_{m}" for m in metrics}
            if set(names.values()) <= set(row.index):
                scores[task] = {m: float(row.value[name]) for m, name in names.items()}
        if not scores:
            continue
        whole = len(scores) == len(points)
        yield {
            **PLAIN,
            **who,
            "column": "superb_s" if whole else "partial",
            "value": partial_superb_score(scores),
            "note": "" if whole else ", ".join(scores),
            "source": "superb_score of the row",
            "link": row.link.iloc[0][0],
        }


# From the data frame to tables


def ranked(section: Section, figures: pd.DataFrame) -> pd.DataFrame:
    """Return a section's cells, ordered by corpus, then by merit, then by column.

    A cell is the mean `value` of a system's runs and their standard deviation `spread`; the
    columns of `ONE_FIGURE` list its figures.
    """
    places = {column.name: place for place, column in enumerate(section.columns)}
    part = figures[(figures.section == section.name) & figures.column.isin(places)]
    if part.empty:
        return part
    cells = (
        part.groupby([*IDENTITY, "column"], sort=False)
        .agg(
            value=("value", "mean"),
            spread=("value", "std"),
            values=("value", list),
            note=("note", list),
            source=("source", list),
            link=("link", list),
            steps=("steps", list),
            planned=("planned", list),
        )
        .reset_index()
    )
    (best,) = (column for column in section.columns if column.name == section.rank_by)
    merit = cells[cells.column == best.name].set_index(IDENTITY).value
    cells = cells.join(merit.mul(1 if best.lower_is_better else -1).rename("merit"), on=IDENTITY)
    cells["label"] = cells.system.where(cells.detail == "", cells.system + ", " + cells.detail)
    cells["place"] = cells.column.map(places)
    return cells.sort_values(
        ["corpus", "merit", "label", "size", "runs", "published", "place"], ignore_index=True
    )


def rows_of(cells: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the identity of each row, and its cells by column."""
    if not cells.empty:
        for who, row in cells.groupby(IDENTITY, sort=False):
            yield dict(zip(IDENTITY, who, strict=True)), row.set_index("column")


def shown(cell: Any, column: Column) -> str:
    """Return the text of a cell: its value, and with several runs their spread."""
    text = f"{cell.value:.{column.digits}f}"
    if len(cell["values"]) > 1:
        text += f" ± {cell.spread:.{column.digits}f}"
    return f"{text} ({cell.note[0]})" if cell.note[0] else text


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
    mini, own = board.figures.mini, board.figures.corpus.str.startswith(OWN)
    parts = []
    for heading, figures in (
        (INTRODUCTION, board.figures[~mini & ~own]),
        (OWN_CORPORA, board.figures[~mini & own]),
        (MINIATURES, board.figures[mini]),
    ):
        tables = [(section, ranked(section, figures)) for section in all_sections().values()]
        if len(figures) or heading != OWN_CORPORA:
            parts.append(heading.format(published=os.path.relpath(PUBLISHED, home)))
        parts += [
            f"## {section.title}\n\n{section.about}\n\n{_table(section, cells)}\n"
            for section, cells in tables
            if not cells.empty
        ]
    if board.left_out:
        parts.append("\n".join(["# Left out", "", *(f"- {line}" for line in board.left_out), ""]))
    return "\n".join(parts)


def _table(section: Section, cells: pd.DataFrame) -> str:
    # A column that no row has says nothing.
    columns = [column for column in section.columns if column.name in set(cells.column)]
    heads = [column.heading + (" ↓" if column.lower_is_better else "") for column in columns]
    trained = cells.steps.map(any).any()
    rows = []
    for who, row in rows_of(cells):
        runs = row["values"].map(len).max()
        rows.append(
            (
                _plain(who["corpus"]),
                f"[{_plain(row.label.iloc[0])}]({row.link.iloc[0][0]})",
                who["size"],
                f"{runs} in {who['runs']}" if runs > 1 else who["runs"],
                *([steps_shown(row)] if trained else []),
                *(shown(row.loc[c.name], c) if c.name in row.index else "" for c in columns),
            )
        )
    head = ("corpus", "system", "size", "runs", *(["steps"] if trained else []), *heads)
    return markdown_table(head, rows, numbers=len(columns), even=False)


def _plain(text: str) -> str:
    """Escape a name, so that Markdown shows it as it is."""
    return text.replace("|", "\\|").replace("[", "\\[").replace("_", "\\_").replace("<", "&lt;")


def sheet(board: Board) -> str:
    """Return every figure as a line of CSV."""
    parts = [
        ranked(section, board.figures[board.figures.mini == mini])
        for section in all_sections().values()
        for mini in (False, True)
    ]
    lines = pd.concat([part for part in parts if not part.empty]).explode(ONE_FIGURE)
    lines["kind"] = lines.mini.map({True: "mini", False: "own"}).mask(lines.published, "published")
    lines["values"] = lines["values"].map("{:.6g}".format)
    names = {"column": "figure", "values": "value"}
    who = ["section", "kind", "corpus", "system", "detail", "size", "runs", "column"]
    return lines[[*who, *ONE_FIGURE]].rename(columns=names).to_csv(index=False, lineterminator="\n")


def page(board: Board) -> str:
    """Return the leaderboard as an HTML file that sorts and filters in the browser."""
    data = []
    for section in all_sections().values():
        cells = ranked(section, board.figures)
        if cells.empty:
            continue
        columns = {c.name: c for c in section.columns if c.name in set(cells.column)}
        rows = [
            {
                **{name: who[name] for name in ("corpus", "size", "runs", "mini", "published")},
                "system": row.label.iloc[0],
                "steps": steps_shown(row),
                "cells": {
                    name: {
                        "value": round(float(cell.value), 6),
                        "text": shown(cell, columns[name]),
                        "sources": [
                            [source, link if link.startswith("https://") else quote(link)]
                            for source, link in zip(cell.source, cell.link, strict=True)
                        ],
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
    return fill("leaderboard.html", data)


def write_leaderboard(board: Board, home: Path, html: Path | None = None) -> tuple[Path, ...]:
    """Write the tables as Markdown, CSV and a page; equal figures give equal files.

    Args:
        board: everything that is shown.
        home: folder of the files; created.
        html: the page, if it has its own place.

    Returns:
        The three files.

    Raises:
        CorpusError: the folder cannot be written.
    """
    paths = home / TABLE, home / SHEET, html or home / PAGE
    texts = markdown(board, home), sheet(board), page(board)
    with writing(home):
        for path, text in zip(paths, texts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return paths


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    p.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[COMMITTED],
        metavar="DIR",
        help=f"folders of result files, read to the bottom (default: {COMMITTED})",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for {TABLE} and {SHEET} (default: the first folder of results)",
    )
    p.add_argument(
        "--html", type=Path, metavar="FILE", help=f"the page (default: {PAGE} in that folder)"
    )


def run(args: Namespace) -> Path:
    """Write the leaderboard; returns its Markdown."""
    home = args.out or args.results[0]
    table, *others = write_leaderboard(gather(args.results, home), home, args.html)
    for path in others:
        logger.info("written: %s", path)
    return table


BENCHMARK = Benchmark(add_options=add_options, run=run)
