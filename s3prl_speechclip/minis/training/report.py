"""Reports on the models that are trained on the mini encoders, as Markdown, from result files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
    ("CIF keywords beat CLS keywords, hit rate", "hit rate", "plus", "cascaded"),
    ("CIF keywords beat CLS keywords, hit rate", "hit rate", "hybrid_plus", "hybrid"),
    (
        "The cascaded task helps the parallel branch, mean recall@10",
        "parallel",
        "hybrid",
        "parallel",
    ),
    (
        "The cascaded task helps the parallel branch, mean recall@10",
        "parallel",
        "hybrid_plus",
        "parallel",
    ),
)
"""Claim of the papers, figure, and the two models that are compared."""
CERTAIN = 2.0  # standard errors
SYSTEMS = ("speechclip_plus", "speechclip_hybrid", "speechclip_encoder", "fbank_no_cmvn")

Figures = Mapping[tuple[str, str, str], Sequence[float]]
"""Percent of every seed, by model, split and name."""


def models_report(results: Path) -> str:
    """Report the five models over seeds, and the papers' claims."""
    figures = read_figures(results)
    columns = [(split, figure) for split in SPLITS for figure in ("hit rate", "keywords")]
    keywords = [
        (name, *(_spread(figures[name, split, figure]) for split, figure in columns))
        for name in VARIANTS
        if (name, SPLITS[0], "hit rate") in figures
    ]
    return template("models_report").format(
        recall=markdown_table(*recall_rows(figures)),
        keywords=markdown_table(("model", *map(" ".join, columns)), keywords),
        claims="\n".join(f"- {line}" for line in claims(figures)),
    )


def norm_report(results: Path) -> str:
    """Report keywords with and without batch norm.

    Raises:
        ResultError: a result is missing or cannot be read.
    """
    from ...pretrain.config import resolve_config

    head = ("keywords", "split", "hit rate", "chance", "distinct", "spread", "shift", "plane")
    rows, frequent = [], []
    for norm, title in NORMS.items():
        path = results / f"keywords-{NORM_MODEL}-{norm}.json"
        if not path.is_file():
            raise ResultError(f"'{path}' is missing: run 'make mini' first")
        metrics = read_result(path).metrics
        for split in SPLITS:
            hits = metrics[split]["with_stop_words"]["hit_rate"]
            placed = metrics[split]["embeddings"]["keywords"]
            cells = (
                hits["mean"],
                hits["chance"],
                metrics[split]["counts"]["distinct"],
                placed["spread"],
                placed["shift"],
                placed["explained_by_plane"],
            )
            rows.append((title, split, *(f"{value:.1f}" for value in cells)))
        words = (f"{word} {count}" for word, count in metrics["test_image"]["frequent"])
        frequent.append(f"- {title}: {', '.join(words)}.")
    return template("norm_report").format(
        steps=resolve_config(NORM_MODEL, NORM_PRESET).runner.total_steps,
        table=markdown_table(head, rows),
        frequent="\n".join(frequent),
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
        seeds = len(results["retrieval"])
        if not seeds:
            raise ResultError(f"'{folder}' holds no result of {name}: run 'make mini' first")
        for task, own in results.items():
            for split in SPLITS:
                for result in own:
                    for figure, value in _figures(task, result.metrics[split]):
                        found.setdefault((name, split, figure), []).append(value)
        for (model, split, figure), values in found.items():
            if model == name and len(values) < seeds:
                raise ResultError(f"a result of {name} lacks '{figure}' on {split}")
    return found


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
    head = ("model", "seeds", "embedding", *map(" ".join, columns))
    rows = []
    for name in VARIANTS:
        for embedding in EMBEDDINGS:
            if (name, SPLITS[0], embedding) in figures:
                own = [figures[name, split, f"{embedding} {arrow}"] for split, arrow in columns]
                rows.append((name, str(len(own[0])), embedding, *map(_spread, own)))
    first = next(iter(VARIANTS))
    chance = [fmean(figures[first, split, f"chance {arrow}"]) for split, arrow in columns]
    rows.append(("chance", "", "", *(f"{value:.1f}" for value in chance)))
    return head, rows


def claims(figures: Figures) -> list[str]:
    """Test each claim of the papers, a line a pair of models and split."""
    lines = []
    for claim, figure, one, other in CLAIMS:
        model, rival = f"speechclip_{one}", f"speechclip_{other}"
        for split in SPLITS:
            found = verdict(figures[model, split, figure], figures[rival, split, figure])
            lines.append(f"{claim} on {split}, {model} over {rival}: {found}")
    return lines


def verdict(one: Sequence[float], other: Sequence[float]) -> str:
    """Compare figures over seeds: a difference counts above two standard errors of itself."""
    compared = f"{_spread(one)} against {_spread(other)}"
    if min(len(one), len(other)) < 2:
        return f"{compared}, one seed: **undecided**."
    difference = fmean(one) - fmean(other)
    error = math.sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    word = "undecided"
    if abs(difference) > CERTAIN * error:
        word = "holds" if difference > 0 else "does not hold"
    return f"{compared}, difference {difference:+.1f} ± {error:.1f}: **{word}**."


def _spread(values: Sequence[float]) -> str:
    """Write the mean over seeds, and the standard deviation of several."""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _cell(result: TaskResult | None, metric: Metric) -> str:
    if result is None or metric.key not in result.metrics.get("test", {}):
        return "-"
    value = float(result.metrics["test"][metric.key])
    return f"{metric.to_percent * value:.1f}" if metric.percent else f"{value:.3f}"


def template(name: str) -> str:
    """Read one of the Markdown templates beside this file."""
    return Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8")
