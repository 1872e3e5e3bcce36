"""superb_s: SUPERB's ten tasks in one number.

Each metric is scaled between the values that two systems had on SUPERB's leaderboard, which come to
0 and 1000: 1000 x (value - base) / (top - base); metrics are averaged within a task, then tasks.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from s3prl_speechclip.errors import ResultError, unknown_name

PUBLISHED = Path(str(resources.files("s3prl_speechclip.benchmarks"))) / "published"
REFERENCE_POINTS = PUBLISHED / "superb_reference_points.csv"
SCALE = 1000.0

Scores = Mapping[str, Mapping[str, float]]
"""Percent by task and metric, such as `{"PR": {"PER": 5.41}}`."""


@dataclass(frozen=True)
class Reference:
    """The values of a metric that come to 0 and 1000."""

    base: float
    top: float


@dataclass(frozen=True)
class PartialScore:
    """A score over some of the tasks; comparable only with scores over the same."""

    value: float
    tasks: tuple[str, ...]


def superb_score(scores: Scores) -> float:
    """Give superb_s.

    Args:
        scores: all metrics of all ten tasks.

    Raises:
        ResultError: a task or metric that is missing, unknown or no number.
    """
    missing = [task for task in reference_points() if task not in scores]
    if missing:
        raise ResultError(
            f"superb_s needs all ten tasks, these are missing: {', '.join(missing)}; "
            "partial_superb_score scores the others"
        )
    return partial_superb_score(scores).value


def partial_superb_score(scores: Scores) -> PartialScore:
    """Score the tasks that are there, as superb_s does.

    Raises:
        ResultError: no task; a task that lacks a metric; what is unknown or no number.
    """
    points = reference_points()
    if not scores:
        raise ResultError("a score needs the metrics of a task, found none")
    tasks = {}
    for task, metrics in scores.items():
        if task not in points:
            raise ResultError(unknown_name("SUPERB task", task, points))
        for metric in metrics:
            if metric not in points[task]:
                raise ResultError(unknown_name(f"metric of {task}", metric, points[task]))
        tasks[task] = _mean(
            _scaled(task, metric, metrics, reference) for metric, reference in points[task].items()
        )
    in_order = tuple(task for task in points if task in tasks)
    return PartialScore(_mean(tasks[task] for task in in_order), in_order)


@cache
def reference_points() -> Mapping[str, Mapping[str, Reference]]:
    """Give the published values by task and metric."""
    points: dict[str, dict[str, Reference]] = defaultdict(dict)
    with open(REFERENCE_POINTS, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            points[row["task"]][row["metric"]] = Reference(float(row["base"]), float(row["top"]))
    return MappingProxyType(dict(points))


def _scaled(task: str, metric: str, metrics: Mapping[str, float], reference: Reference) -> float:
    if metric not in metrics:
        raise ResultError(f"SUPERB's {task} has no {metric}, which its score needs; measure it")
    value = metrics[metric]
    if not math.isfinite(value):
        raise ResultError(f"SUPERB's {task} {metric} is {value}, expected a number")
    return SCALE * (value - reference.base) / (reference.top - reference.base)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
