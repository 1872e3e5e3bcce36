"""The five models over seeds as a table, and what it says of the papers' two claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ...errors import ResultError
from ...model.config import VARIANTS
from ...results import read_result
from ...structures import TaskResult

SPLITS = ("test_speaker", "test_image")
DIRECTIONS = ("speech_to_image", "image_to_speech")
ARROWS = {"speech_to_image": "S>I", "image_to_speech": "I>S"}
CERTAIN = 2.0  # standard errors


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; 0 of one seed."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        spread = f" ± {self.deviation:.1f}" if len(self.values) > 1 else ""
        return f"{self.mean:.1f}{spread}"


@dataclass(frozen=True)
class Runs:
    """One model's results over seeds."""

    name: str
    retrieval: tuple[TaskResult, ...]
    keywords: tuple[TaskResult, ...]

    @property
    def embeddings(self) -> tuple[str, ...]:
        """What the model has, such as parallel, cascaded and their sum."""
        split = self.retrieval[0].metrics[SPLITS[0]]
        return tuple(name for name in ("parallel", "cascaded", "sum") if name in split)

    def recall(self, split: str, embedding: str, direction: str, k: int = 10) -> Spread:
        """Recall at k in percent."""
        return self._spread(self.retrieval, lambda m: m[split][embedding][direction][f"recall@{k}"])

    def mean_recall(self, split: str, embedding: str, k: int = 10) -> Spread:
        """Recall at k in percent, mean of both directions."""
        pairs = [self.recall(split, embedding, direction, k).values for direction in DIRECTIONS]
        return Spread(tuple(fmean(both) for both in zip(*pairs, strict=True)))

    def keyword(self, figure: Callable[[Mapping[str, Any]], float], split: str) -> Spread:
        """A figure of the keyword results of a split."""
        return self._spread(self.keywords, lambda m: figure(m[split]))

    def _spread(
        self, results: Sequence[TaskResult], figure: Callable[[Mapping[str, Any]], float]
    ) -> Spread:
        try:
            return Spread(tuple(float(figure(result.metrics)) for result in results))
        except KeyError as error:
            raise ResultError(f"a result of {self.name} lacks the metric {error}") from error


def hit_rate(metrics: Mapping[str, Any]) -> float:
    """Keyword hit rate in percent."""
    return float(metrics["with_stop_words"]["hit_rate"]["mean"])


def keyword_count(metrics: Mapping[str, Any]) -> float:
    """Keywords an utterance."""
    return float(metrics["counts"]["keywords"])


def read_runs(folder: Path) -> dict[str, Runs]:
    """Read the results of all runs, by model.

    Raises:
        ResultError: a result is missing or cannot be read.
    """
    found = {}
    for name in VARIANTS:
        results = {
            task: tuple(read_result(p) for p in sorted(folder.glob(f"{task}-{name}-seed*.json")))
            for task in ("retrieval", "keywords")
        }
        if not results["retrieval"]:
            raise ResultError(f"'{folder}' holds no result of {name}: run 'make mini' first")
        found[name] = Runs(name, results["retrieval"], results["keywords"])
    return found


def recall_rows(runs: Mapping[str, Runs]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give head and rows of the recall table: recall@10 in percent, mean and deviation."""
    head = (
        "model",
        "seeds",
        "embedding",
        *(f"{split} {ARROWS[direction]}" for split in SPLITS for direction in DIRECTIONS),
    )
    rows = [
        (
            name,
            str(len(own.retrieval)),
            embedding,
            *(str(own.recall(split, embedding, d)) for split in SPLITS for d in DIRECTIONS),
        )
        for name, own in runs.items()
        for embedding in own.embeddings
    ]
    chance = next(iter(runs.values()))
    cells = [f"{chance.recall(s, 'chance', d).mean:.1f}" for s in SPLITS for d in DIRECTIONS]
    rows.append(("chance", "", "", *cells))
    return head, rows


def keyword_rows(runs: Mapping[str, Runs]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give head and rows of the keyword table."""
    head = ("model", *(f"{s} {what}" for s in SPLITS for what in ("hit rate", "keywords")))
    rows = []
    for name, own in runs.items():
        if own.keywords:
            cells = [
                str(own.keyword(figure, split))
                for split in SPLITS
                for figure in (hit_rate, keyword_count)
            ]
            rows.append((name, *cells))
    return head, rows


def claims(runs: Mapping[str, Runs]) -> list[str]:
    """Say of each claim, where it can be tested, whether it holds here.

    A difference counts where it is more than two standard errors of itself over seeds.
    """
    lines = []
    for cif, cls in (
        ("speechclip_plus", "speechclip_cascaded"),
        ("speechclip_hybrid_plus", "speechclip_hybrid"),
    ):
        for split in SPLITS:
            one, other = runs[cif].keyword(hit_rate, split), runs[cls].keyword(hit_rate, split)
            lines.append(
                f"CIF keywords beat CLS keywords, hit rate on {split}, {cif} over {cls}: "
                + _verdict(one, other)
            )
    for hybrid in ("speechclip_hybrid", "speechclip_hybrid_plus"):
        for split in SPLITS:
            one = runs[hybrid].mean_recall(split, "parallel")
            other = runs["speechclip_parallel"].mean_recall(split, "parallel")
            lines.append(
                "The cascaded task helps the parallel branch, mean recall@10 on "
                f"{split}, {hybrid} over speechclip_parallel: " + _verdict(one, other)
            )
    return lines


def _verdict(one: Spread, other: Spread) -> str:
    difference = one.mean - other.mean
    error = math.sqrt(one.deviation**2 / len(one.values) + other.deviation**2 / len(other.values))
    word = "undecided"
    if min(len(one.values), len(other.values)) < 2:
        return f"{one} against {other}, one seed: **{word}**."
    if abs(difference) > CERTAIN * error:
        word = "holds" if difference > 0 else "does not hold"
    return f"{one} against {other}, difference {difference:+.1f} ± {error:.1f}: **{word}**."
