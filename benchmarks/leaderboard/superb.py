"""SUPERB's score, and the figures of its tasks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean

from s3prl_speechclip.downstream.task import Metric, all_tasks
from s3prl_speechclip.errors import ResultError, unknown_name
from s3prl_speechclip.structures import TaskResult

from ..shared.board import Figure
from .published import read_published

SUPERB, MINI_SETS = "SUPERB", "mini sets"
ALL_LAYERS = "hidden_states"
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


def superb_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a SUPERB task."""
    if result.corpus.endswith("_mini"):
        corpus = MINI_SETS
    else:  # another edition of a corpus stands apart
        corpus = SUPERB if result.corpus == result.task else result.corpus
    # So do features that are not SUPERB's: frozen, all layers weighted.
    corpus = ", ".join((corpus, *_changed_features(result)))
    split, metrics = MEASURED[result.task]
    fold = ""
    if result.task == "emotion":
        configured = result.protocol["expert"]["datarc"].get("test_fold")
        fold = str(configured or result.protocol["variant"] or "fold1")
    for metric in metrics:
        yield Figure(
            column=metric.column,
            keys=(split, metric.key),
            corpus=corpus,
            factor=metric.to_percent,
            note=NOTES.get(result.task, ""),
            fold=fold,
        )


def _changed_features(result: TaskResult) -> Iterator[str]:
    """Yield the ways in which the features of a result differ from SUPERB's."""
    protocol = result.protocol
    if protocol.get("upstream_trained"):
        yield "fine-tuned"
    if protocol.get("normalize"):
        yield "normalised"
    if protocol.get("layer") is not None and "layer_chosen" not in protocol:
        yield f"layer {protocol['layer']}"
    if protocol.get("features", ALL_LAYERS) != ALL_LAYERS:
        yield str(protocol["features"])
