"""Reports on the models that are trained on the mini encoders, as Markdown, from result files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ...downstream.task import Metric, find_task
from ...errors import ResultError
from ...model.config import VARIANTS
from ...results import markdown_table, read_result
from ...structures import TaskResult
from .. import SUPERB

DEMO = "speechclip_hybrid"
"""Model of the demo."""
NORM_MODEL, NORM_PRESET = "speechclip_cascaded", "slides_mini"
"""The slides' early set-up, which is trained with keyword batch norm and without."""
NORMS: Mapping[str, str] = {"none": "without batch norm", "per_keyword": "with batch norm"}
"""`model.keywords.norm`, and its name in the report."""
SUPERB_RESULTS = Path("benchmarks") / "results" / "superb_mini"
SPLITS = ("test_speaker", "test_image")
DIRECTIONS = {"speech_to_image": "S>I", "image_to_speech": "I>S"}
EMBEDDINGS = ("parallel", "cascaded", "sum")
CLAIMS = (
    (
        "CIF keywords beat CLS keywords",
        "hit rate",
        "hit rate",
        (
            ("speechclip_plus", "speechclip_cascaded"),
            ("speechclip_hybrid_plus", "speechclip_hybrid"),
        ),
    ),
    (
        "The cascaded task helps the parallel branch",
        "parallel",
        "mean recall@10",
        (
            ("speechclip_hybrid", "speechclip_parallel"),
            ("speechclip_hybrid_plus", "speechclip_parallel"),
        ),
    ),
)
"""Claim of the papers, figure, its name, and the models that are compared."""
CERTAIN = 2.0  # standard errors
SYSTEMS = ("speechclip_plus", "speechclip_hybrid", "speechclip_encoder", "fbank_no_cmvn")


def models_report(results: Path) -> str:
    """Report the five models over seeds, and the papers' claims."""
    figures = read_figures(results)
    return "\n".join(
        [
            "# The five models on the mini encoders",
            "",
            "Trained and tested on `stamps`; mean ± standard deviation over seeds, in percent. "
            "These are miniatures: their figures say nothing of the published models. `make mini` "
            "trains what is missing, and writes this file from the result files beside it.",
            "",
            "## Recall@10",
            "",
            markdown_table(*recall_rows(figures)),
            "",
            "## Keywords",
            "",
            "Hit rate: keywords with a token of the English caption among their five nearest; "
            "keywords: how many an utterance has.",
            "",
            markdown_table(*keyword_rows(figures)),
            "",
            "## The papers' claims, in miniature",
            "",
            "A difference counts where it exceeds two standard errors over seeds. All runs are "
            "equally short: a model whose hit rate is no higher than chance has not learned to "
            "name words yet, and a line about it says which model learns sooner, not which is "
            "better in the end.",
            "",
            *(f"- {line}" for line in claims(figures)),
            "",
        ]
    )


def norm_report(results: Path) -> str:
    """Report keywords with and without batch norm."""
    from ...pretrain.config import resolve_config

    both = read_both(results)
    steps = resolve_config(NORM_MODEL, NORM_PRESET).runner.total_steps
    return "\n".join(
        [
            "# Keywords with and without batch norm",
            "",
            "`speechclip_cascaded` in the slides' early set-up (preset `slides_mini`: batch 240, "
            f"InfoNCE at a fixed temperature of 0.1), {steps} steps on `stamps` and "
            "`named_pictures`, seed 0, without keyword batch norm and with it. `make mini` makes "
            "both, and writes this file from the results in `keyword_norm/`.",
            "",
            markdown_table(*norm_rows(both)),
            "",
            "Hit rate and its chance in percent; distinct: different keywords of a split; spread: "
            "standard deviation of keywords over that of tokens; shift: distance of the means in "
            "that unit; plane: percent of the keywords' variance in the plane of the tokens' first "
            "two principal components.",
            "",
            "The commonest keywords of `test_image`, and how often they came:",
            "",
            *(f"- {NORMS[norm]}: {_frequent(result)}." for norm, result in both.items()),
            "",
        ]
    )


def superb_table(results: Sequence[TaskResult]) -> str:
    """Report results on the SUPERB mini sets, an upstream a row, with the minutes of all."""
    by_system: dict[str, dict[str, TaskResult]] = {}
    for result in results:
        by_system.setdefault(result.system, {})[result.task] = result
    order = sorted(by_system, key=lambda name: SYSTEMS.index(name) if name in SYSTEMS else 99)
    columns = [(name, metric) for name in SUPERB for metric in find_task(name).metrics]
    rows = []
    for system in order:
        found = by_system[system]
        cells = [_cell(found.get(name), metric) for name, metric in columns]
        minutes = sum(result.wall_time for result in found.values()) / 60
        rows.append((system, *cells, f"{minutes:.0f}"))
    head = ("upstream", *(metric.label for _, metric in columns), "minutes")
    return (
        "SUPERB's tasks on mini sets, test scores in percent, TWV as it is "
        "[mini: not comparable with published figures]\n\n" + markdown_table(head, rows) + "\n"
    )


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


Figures = Mapping[tuple[str, str, str], Spread]
"""Figures over seeds by model, split and name."""


def read_figures(folder: Path) -> Figures:
    """Read the figures of all runs, in percent.

    Raises:
        ResultError: a result is missing, cannot be read, or lacks a figure.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    for name in VARIANTS:
        results = {
            task: [read_result(p) for p in sorted(folder.glob(f"{task}-{name}-seed*.json"))]
            for task in ("retrieval", "keywords")
        }
        if not results["retrieval"]:
            raise ResultError(f"'{folder}' holds no result of {name}: run 'make mini' first")
        for task, own in results.items():
            for split in SPLITS:
                for result in own:
                    for figure, value in _figures(task, result.metrics[split]):
                        found.setdefault((name, split, figure), []).append(value)
        seeds = len(results["retrieval"])
        for (model, split, figure), values in found.items():
            if model == name and len(values) < seeds:
                raise ResultError(f"a result of {name} lacks '{figure}' on {split}")
    return {key: Spread(tuple(values)) for key, values in found.items()}


def _figures(task: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if task == "keywords":
        yield "hit rate", float(metrics["with_stop_words"]["hit_rate"]["mean"])
        yield "keywords", float(metrics["counts"]["keywords"])
        return
    for embedding in (*EMBEDDINGS, "chance"):
        if embedding in metrics:
            recall = [float(metrics[embedding][name]["recall@10"]) for name in DIRECTIONS]
            yield embedding, fmean(recall)
            for arrow, value in zip(DIRECTIONS.values(), recall, strict=True):
                yield f"{embedding} {arrow}", value


def recall_rows(figures: Figures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of the recall table: recall@10 in percent, mean and deviation."""
    columns = [(split, arrow) for split in SPLITS for arrow in DIRECTIONS.values()]
    head = ("model", "seeds", "embedding", *(f"{split} {arrow}" for split, arrow in columns))
    rows = []
    for name in VARIANTS:
        for embedding in EMBEDDINGS:
            if (name, SPLITS[0], embedding) in figures:
                own = [figures[name, split, f"{embedding} {arrow}"] for split, arrow in columns]
                rows.append((name, str(len(own[0].values)), embedding, *map(str, own)))
    first = next(iter(VARIANTS))
    chance = [figures[first, split, f"chance {arrow}"].mean for split, arrow in columns]
    rows.append(("chance", "", "", *(f"{value:.1f}" for value in chance)))
    return head, rows


def keyword_rows(figures: Figures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of the keyword table."""
    columns = [(split, figure) for split in SPLITS for figure in ("hit rate", "keywords")]
    rows = [
        (name, *(str(figures[name, split, figure]) for split, figure in columns))
        for name in VARIANTS
        if (name, SPLITS[0], "hit rate") in figures
    ]
    return ("model", *(f"{split} {figure}" for split, figure in columns)), rows


def claims(figures: Figures) -> list[str]:
    """Test each claim of the papers here.

    A difference counts where it is more than two standard errors of itself over seeds.
    """
    lines = []
    for claim, figure, what, pairs in CLAIMS:
        for model, other in pairs:
            for split in SPLITS:
                verdict = _verdict(figures[model, split, figure], figures[other, split, figure])
                lines.append(f"{claim}, {what} on {split}, {model} over {other}: {verdict}")
    return lines


def read_both(results: Path) -> dict[str, TaskResult]:
    """Read the two results, by norm.

    Raises:
        ResultError: one is missing or cannot be read.
    """
    found = {norm: results / f"keywords-{NORM_MODEL}-{norm}.json" for norm in NORMS}
    for path in found.values():
        if not path.is_file():
            raise ResultError(f"'{path}' is missing: run 'make mini' first")
    return {norm: read_result(path) for norm, path in found.items()}


def norm_rows(
    both: Mapping[str, TaskResult],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of the comparison.

    Distinct: different keywords of a split. Spread: standard deviation of keywords over that of
    tokens. Shift: distance of the means in the same unit. Plane: share of the keywords' variance,
    in percent, in the plane of the tokens' first two principal components.
    """
    head = ("keywords", "split", "hit rate", "chance", "distinct", "spread", "shift", "plane")
    rows = []
    for norm, result in both.items():
        for split in SPLITS:
            metrics: Mapping[str, Any] = result.metrics[split]
            hits, placed = metrics["with_stop_words"]["hit_rate"], metrics["embeddings"]["keywords"]
            cells = (
                hits["mean"],
                hits["chance"],
                metrics["counts"]["distinct"],
                placed["spread"],
                placed["shift"],
                placed["explained_by_plane"],
            )
            rows.append((NORMS[norm], split, *(f"{value:.1f}" for value in cells)))
    return head, rows


def _frequent(result: TaskResult) -> str:
    """Return the commonest keywords of the held-out images with their counts."""
    return ", ".join(f"{word} {count}" for word, count in result.metrics[SPLITS[1]]["frequent"])


def _cell(result: TaskResult | None, metric: Metric) -> str:
    if result is None or metric.key not in result.metrics.get("test", {}):
        return "-"
    value = float(result.metrics["test"][metric.key])
    return f"{metric.to_percent * value:.1f}" if metric.percent else f"{value:.3f}"


def _verdict(one: Spread, other: Spread) -> str:
    difference = one.mean - other.mean
    error = math.sqrt(one.deviation**2 / len(one.values) + other.deviation**2 / len(other.values))
    word = "undecided"
    if min(len(one.values), len(other.values)) < 2:
        return f"{one} against {other}, one seed: **{word}**."
    if abs(difference) > CERTAIN * error:
        word = "holds" if difference > 0 else "does not hold"
    return f"{one} against {other}, difference {difference:+.1f} ± {error:.1f}: **{word}**."
