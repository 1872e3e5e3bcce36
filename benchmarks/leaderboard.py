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
import re
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

import pandas as pd

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.downstream.settings import config_folder
from s3prl_speechclip.downstream.task import Metric, all_tasks
from s3prl_speechclip.errors import ResultError, unknown_name
from s3prl_speechclip.results import check_record, markdown_table
from s3prl_speechclip.structures import TaskResult

from .pages import fill
from .shared.benchmark import TRAINING_STEPS, Benchmark, benchmark_titles, load_benchmark
from .shared.board import CHANCE, KS, Column, Figure, Section, recall_figures

logger = logging.getLogger(__name__)

PUBLISHED = Path(__file__).parent / "published"
LAYOUT = read_yaml(Path(__file__).parent / "sections.yaml")
OWN_RUNS = Path("result")
TABLE, SHEET, PAGE = "LEADERBOARD.md", "leaderboard.csv", "leaderboard.html"
SUPERB, MINI_SETS = "SUPERB", "mini sets"
CORPORA = {
    "flickr8k": "Flickr8k",
    "spokencoco": "SpokenCOCO",
    "zerospeech2021": "ZeroSpeech 2021",
}
"""Corpora of published tables, as those spell them."""
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
TEXTS = {"system", "size", "source", "address", "dataset", "direction", "metric", "task"}
"""Columns of published tables that hold no numbers."""
LARGEST = 1e9  # of a figure; what is beyond is none
TRAINED = 50_000  # steps of the papers' models
FOLDS = 5  # sessions of IEMOCAP, over which SUPERB averages
SEED = re.compile(r"[-_.]?seed[-_.=]?\d+")


# SUPERB


def reference_points() -> dict[str, dict[str, tuple[float, float]]]:
    """Return the published values that are scaled to 0 and 1000, by task and metric."""
    rows, wrong = read_published("superb_reference_points.csv")
    if wrong:
        raise ResultError("; ".join(wrong))
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        points[row["task"]][row["metric"]] = row["base"], row["top"]
    return dict(points)


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
    return fmean(
        fmean(1000.0 * (scores[task][m] - base) / (top - base) for m, (base, top) in ends.items())
        for task, ends in points.items()
        if task in scores
    )


# Sections that are no benchmark's own


MEASURED = {
    task.name: (task.test, [metric for metric in task.metrics if metric.column])
    for task in all_tasks()
} | {
    # Neither is measured by one run alone: the mean of folds, and an error rate beside accuracy.
    "emotion": ("test", [Metric(key="acc", label="ER acc", column="ER")]),
    "diarization": (
        "test",
        [Metric(key="der", label="SD DER", column="SD", higher_is_better=False)],
    ),
}
"""Split and metrics with leaderboard columns of downstream tasks."""
NOTES = {"diarization": "of frames"}
"""Remarks on a figure: s3prl's own error rate lacks the official scoring's median filter."""
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
    split, metrics = MEASURED[result.task]
    fold = ""
    if result.task == "emotion":
        fold = str(result.protocol["expert"]["datarc"]["test_fold"] or "fold1")
    for metric in metrics:
        yield Figure(
            column=metric.column,
            keys=(split, metric.key),
            corpus=corpus,
            factor=metric.to_percent,
            note=NOTES.get(result.task, ""),
            fold=fold,
        )


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


@cache
def all_sections() -> Mapping[str, Section]:
    """Return the sections by name, in order: those of the layout, and those of benchmarks."""
    found: dict[str, Section] = {}
    measured = {m.column: not m.higher_is_better for _, ms in MEASURED.values() for m in ms}
    for name, values in LAYOUT["sections"].items():
        columns, every = dict(values["columns"]), values.get("every", {})
        if name == "superb":  # further tasks come before SUPERB's score
            scores = {score: columns.pop(score) for score in ("superb_s", "partial")}
            for column, lower in measured.items():
                columns[column] = {**columns.get(column, {}), "lower_is_better": lower}
            columns |= scores
        found[name] = Section(
            name=name,
            title=values["title"],
            about=values["about"],
            rank_by=values["rank_by"],
            columns=tuple(Column(name=c, **{**every, **own}) for c, own in columns.items()),
            figures=FIGURES.get(name),
        )
    for name in benchmark_titles().keys() - {"leaderboard"}:
        if section := load_benchmark(name).section:
            found[section.name] = section
    order = [*LAYOUT["order"], *sorted(found)]
    return {name: found[name] for name in sorted(found, key=order.index)}


def section_of(task: str) -> Section | None:
    """Return the section that shows the results of a task."""
    superb = task in MEASURED and MEASURED[task][1]
    name = "superb" if superb else {"image_text_retrieval": "image_text"}.get(task, task)
    return all_sections().get(name)


# From files to a data frame


@dataclass(frozen=True)
class Board:
    """Everything that is shown."""

    figures: pd.DataFrame
    """A figure a row, with the fields of `DEFAULTS` and `runs`, the name of its row's runs."""
    left_out: tuple[str, ...]
    """A line for each result file and published row that cannot be used."""


def gather(folders: Sequence[Path], home: Path) -> Board:
    """Read published tables and result folders, to the bottom; links start from `home`.

    Raises:
        ResultError: there is no such folder.
    """
    left_out: list[str] = []
    found = [*published_figures(home, left_out), *result_figures(folders, home, left_out)]
    figures = pd.DataFrame(found, columns=list(DEFAULTS))
    # Every result holds the chance of its corpus, which is no run.
    figures = figures[~(figures.baseline & figures.duplicated([*IDENTITY, "column"]))]
    figures = whole_folds(figures, left_out)
    name_runs(figures)
    derived = pd.DataFrame([*superb_scores(figures, left_out), *mean_recalls(figures)])
    lines = tuple(" ".join(line.split()) for line in left_out)
    for line in lines:
        logger.warning("left out: %s", line)
    return Board(pd.concat([figures, derived], ignore_index=True), lines)


def name_runs(figures: pd.DataFrame) -> None:
    """Tell runs that are no seeds of one another apart, as `take`, and name them, as `runs`.

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


def published_figures(home: Path, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """Read the published tables; links start from `home`."""
    sources, wrong = read_published("sources.csv")
    left_out += wrong
    addresses = {row["source"]: row.get("address") for row in sources if "source" in row}
    for section, (name, corpus) in LAYOUT["published"].items():
        path = os.path.relpath(PUBLISHED / name, home)
        known = {column.name for column in all_sections()[section].columns}
        rows, wrong = read_published(name)
        left_out += wrong
        for row in rows:
            about = {key: row.pop(key, "") for key in ("dataset", "system", "size", "source")}
            if section == "retrieval":
                row = {f"{row.get('direction')} R@{k}": row.get(f"r{k}") for k in KS}
            elif section == "retrieval_validation":
                row = {str(row.get("metric")): row.get("value")}
            if not about["system"] or not row.keys() <= known:
                field = ", ".join(sorted(map(str, row.keys() - known))) or "system"
                left_out.append(f"published/{name}, field '{field}': it is empty or unknown")
                continue
            for column, value in row.items():
                if value is not None:
                    yield {
                        **DEFAULTS,
                        "section": section,
                        "corpus": about["dataset"] or corpus,
                        "system": about["system"],
                        "size": about["size"],
                        "published": True,
                        "column": column,
                        "value": value,
                        "source": about["source"],
                        "link": addresses.get(about["source"]) or path,
                    }


def result_figures(
    folders: Sequence[Path], home: Path, left_out: list[str]
) -> Iterator[dict[str, Any]]:
    """Read all result files below folders; the same result counts once.

    JSON files that are no results, such as configurations of checkpoints, are passed over;
    `left_out` receives a line for each result that cannot be used.
    """
    seen: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ResultError(
                f"there is no folder of results '{folder}'; measure something first, or name "
                "another with --results"
            )
        for path in sorted(folder.rglob("*.json")):
            link = os.path.relpath(path, home)
            try:
                result = read_record(path)
                if result is None:
                    continue
                same = repr({**vars(result), "versions": "", "wall_time": ""})
                if same not in seen:
                    seen.add(same)
                    file = path.relative_to(folder).with_suffix("")
                    yield from figures_of(result, file, path.name, link)
            except ResultError as error:
                left_out.append(f"{link}: {error}")


def read_record(path: Path) -> TaskResult | None:
    """Read a result file; None for other JSON files.

    Raises:
        ResultError: it cannot be read, or a field is wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"it cannot be read ({error}); measure again") from error
    if not isinstance(values, Mapping) or not {"task", "metrics"} <= values.keys():
        return None
    return check_record(values)


def figures_of(
    result: TaskResult, file: Path = Path(), source: str = "", link: str = ""
) -> list[dict[str, Any]]:
    """Return the figures of a result.

    Args:
        result: the result.
        file: its path below the folder of results, without suffix.
        source, link: name of its file, and how the leaderboard reaches it.

    Raises:
        ResultError: it lacks a metric, or is of a task without a section; names field and reason.
    """
    section = section_of(result.task)
    if section is None or section.figures is None:
        raise ResultError(f"field 'task': no table for the task '{result.task}'")
    folder = file.parent.as_posix().removeprefix(".")
    own = result.corpus.startswith("own (")
    try:
        found = [
            {
                **DEFAULTS,
                "section": section.name,
                "corpus": one.corpus or _corpus(result.corpus, one.split),
                "system": one.baseline or result.system,
                "detail": one.detail,
                "part": MINI if result.mini else OWN if own else COMPARABLE,
                "column": one.column,
                "value": one.factor * _number(result, one.keys),
                "note": one.note,
                "source": source,
                "link": quote(link),
                "baseline": bool(one.baseline),
                **({} if one.baseline else _run(result, one, file, folder)),
            }
            for one in section.figures(result)
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ResultError(
            f"field 'metrics': they are not those of {result.task} ({error!r}); measure again"
        ) from error
    if not found:
        raise ResultError(f"field 'metrics': it has no metrics; measure {result.task} again")
    return found


def _corpus(corpus: str, split: str) -> str:
    name = CORPORA.get(corpus, corpus)
    return name if split in ("", "test") else f"{name} {split}"


def _run(result: TaskResult, one: Figure, file: Path, folder: str) -> dict[str, Any]:
    """Return what tells a figure's run from others; seeds of one system differ in them alone."""
    superb = result.task in MEASURED
    steps = result.protocol.get("steps" if superb else TRAINING_STEPS)
    about: dict[str, int] = {}
    if isinstance(steps, int) and not isinstance(steps, bool):
        planned = _superb_steps(result.task) if superb else TRAINED
        about = {"steps": steps, "planned": planned}
    return {
        "size": result.size,
        "run": SEED.sub("", result.checkpoint),
        "checkpoint": result.checkpoint,
        "seed": result.seed,
        "fold": one.fold,
        # Of results in one folder, or the name of a single result.
        "folder": folder or ("" if one.corpus else file.name),
        "file": file.as_posix(),
        **about,
    }


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
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        found = "nothing" if value is None else repr(value)[:40]
        name = ".".join(("metrics", *keys))
        raise ResultError(f"field '{name}': expected a number, found {found}; measure again")
    return float(value)


def whole_folds(figures: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Average the folds of a figure that is their mean; without all of them there is none."""
    folds = figures[figures.fold != ""]
    whole = [figures[figures.fold == ""]]
    for _, runs in folds.groupby([*IDENTITY, "column", "checkpoint", "seed"], sort=False):
        runs = runs.drop_duplicates("fold")
        if len(runs) == FOLDS:
            whole.append(runs.head(1).assign(value=runs.value.mean()))
        else:
            found = ", ".join(sorted(runs.fold))
            left_out.append(
                f"{runs.link.iloc[0]}: {runs.column.iloc[0]} is the mean of {FOLDS} folds, found "
                f"{found}; measure the others with -v"
            )
    return pd.concat(whole, ignore_index=True)


def mean_recalls(figures: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Average both directions where a publication gives them and not their mean."""
    for who, row in rows_of(ranked(all_sections()["retrieval"], figures)):
        for k in KS:
            both = [f"{direction} R@{k}" for direction in ("S2I", "I2S")]
            if f"mean R@{k}" in row.index or not set(both) <= set(row.index):
                continue
            source = f"mean of the row's two directions; {row.source[both[0]][0]}"
            yield {
                **DEFAULTS,
                **who,
                "column": f"mean R@{k}",
                "value": row.value[both].mean(),
                "source": source,
                "link": row.link[both[0]][0],
            }


def superb_scores(figures: pd.DataFrame, left_out: list[str]) -> Iterator[dict[str, Any]]:
    """Score the systems that have figures of SUPERB's own corpora."""
    try:
        points = reference_points()
    except ResultError as error:
        left_out.append(f"{error}; there are no scores")
        return
    for who, row in rows_of(ranked(all_sections()["superb"], figures)):
        if who["part"] == MINI or "superb_s" in row.index:
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
            **DEFAULTS,
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


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    p.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[OWN_RUNS],
        metavar="DIR",
        help=f"folders of result files, read to the bottom (default: {OWN_RUNS}, your own runs)",
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
    p.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="only check that a result file can stand on the leaderboard; names field and reason",
    )


def run(args: Namespace) -> Path:
    """Write the leaderboard; returns its Markdown, or the result file that was checked."""
    if args.check is not None:
        check(args.check)
        return args.check
    home = args.out or args.results[0]
    table, *others = write_leaderboard(gather(args.results, home), home, args.html)
    for path in others:
        logger.info("written: %s", path)
    return table


def check(path: Path) -> None:
    """Check that a result file can stand on the leaderboard.

    Raises:
        ResultError: it cannot; the message names the field and the reason.
    """
    try:
        result = read_record(path)
        if result is None:
            raise ResultError("it is no result: expected an object with 'task' and 'metrics'")
        figures_of(result)
    except ResultError as error:
        raise ResultError(f"'{path}': {error}") from error


BENCHMARK = Benchmark(add_options=add_options, run=run)
