"""From result files and published tables to a data frame of figures."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.downstream.settings import config_folder
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.results import check_record
from s3prl_speechclip.structures import TaskResult

from ..shared.benchmark import TRAINING_STEPS
from ..shared.board import KS, Figure
from . import mteb_results
from .published import PUBLISHED, read_published
from .ranking import COMPARABLE, DEFAULTS, IDENTITY, MINI, OWN, name_runs, ranked, rows_of
from .sections import LAYOUT, all_sections, section_of
from .superb import MEASURED, SUPERB, partial_superb_score, reference_points

logger = logging.getLogger(__name__)

CORPORA = {
    "flickr8k": "Flickr8k",
    "spokencoco": "SpokenCOCO",
    "zerospeech2021": "ZeroSpeech 2021",
}
"""Corpora of published tables, as those spell them."""
LARGEST = 1e9  # of a figure; what is beyond is none
TRAINED = 50_000  # steps of the papers' models
FOLDS = 5  # sessions of IEMOCAP, over which SUPERB averages
SEED = re.compile(r"[-_.]?seed[-_.=]?\d+")


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
    """Read a result file, also mteb's of retrieval; None for other JSON files.

    Raises:
        ResultError: it cannot be read, or a field is wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"it cannot be read ({error}); measure again") from error
    if isinstance(values, Mapping) and values.keys() >= mteb_results.FIELDS:
        return mteb_results.read_mteb(values, path)
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
        if who["corpus"] != SUPERB or "superb_s" in row.index:
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
