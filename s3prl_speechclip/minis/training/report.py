"""Reports on the models that are trained on the mini encoders, as Markdown, from result files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ...downstream.task import Metric, find_task
from ...errors import ResultError
from ...results import markdown_table, read_result
from ...structures import TaskResult
from .. import SUPERB

DEMO = "speechclip_hybrid"
"""Model of the demo."""
DEMO_TASKS = ("keywords", "retrieval")
DEMO_RESULTS = Path("result") / "demo"
"""Folder of the demo's results, `trained` and `shipped`."""
SUPERB_RESULTS = Path("benchmarks") / "results" / "superb_mini"
SYSTEMS = ("speechclip_plus", "speechclip_hybrid", "speechclip_encoder", "fbank_no_cmvn")
SPLITS = ("test_speaker", "test_image")
HIT_RATE = ("with_stop_words", "hit_rate", "mean")
RECALL = ("parallel", "mean", "recall@10")
DEMO_FIGURES = {
    "parallel embedding, recall@10": ("retrieval", RECALL, ("chance", "mean", "recall@10")),
    "cascaded embedding, recall@10": (
        "retrieval",
        ("cascaded", "mean", "recall@10"),
        ("chance", "mean", "recall@10"),
    ),
    "keywords near a content word": (
        "keywords",
        ("without_stop_words", "hit_rate", "mean"),
        ("without_stop_words", "hit_rate", "chance"),
    ),
}
"""Figures that the demo compares: benchmark, figure, and the same by chance."""
NO_NORM = "speechclip_hybrid_no_norm"
"""Hybrid SpeechCLIP without keyword batch norm."""
F1 = ("without_stop_words", "words", "f1")
CIF = "CIF keywords beat CLS keywords, hit rate"
ONCE = "CIF keywords beat CLS keywords, F1 of content words, each once"
HELP = "the cascaded task helps the parallel branch, recall@10"
CLAIMS = (
    (CIF, "keywords", HIT_RATE, "speechclip_plus", "speechclip_cascaded"),
    (CIF, "keywords", HIT_RATE, "speechclip_hybrid_plus", "speechclip_hybrid"),
    (ONCE, "keywords", F1, "speechclip_plus", "speechclip_cascaded"),
    (ONCE, "keywords", F1, "speechclip_hybrid_plus", "speechclip_hybrid"),
    (HELP, "retrieval", RECALL, "speechclip_hybrid", "speechclip_parallel"),
    (HELP, "retrieval", RECALL, "speechclip_hybrid_plus", "speechclip_parallel"),
    ("keyword batch norm helps, hit rate", "keywords", HIT_RATE, "speechclip_hybrid", NO_NORM),
)
"""Claim of the papers, benchmark, figure, and the two models that are compared."""
WORD_FIGURES = {
    "word recognition": ("words", "test_speaker", ("recognition",)),
    "hit rate": ("keywords", "test_speaker", ("without_stop_words", "hit_rate", "mean")),
    "hit rate, new pictures": (
        "keywords",
        "test_image",
        ("without_stop_words", "hit_rate", "mean"),
    ),
    "word error": ("transcribe", "test_speaker", ("transcription", "keywords", "word_error")),
    "content-word F1": ("transcribe", "test_speaker", ("transcription", "keywords", "f1")),
    "recall@10": ("retrieval", "test_speaker", ("cascaded", "mean", "recall@10")),
}
"""Columns of the word-by-word models' table: benchmark, split, figure."""
CERTAIN = 2.0  # standard errors


def models_report(results: Path, words: Path, tried: str, named: str, found: str) -> str:
    """Report whether the papers' claims hold for the models of all seeds, on words, and on trials.

    Args:
        results: folder of the models' results.
        words: folder of those of the word-by-word models.
        tried: table of the settings that were tried, as Markdown.
        named, found: those of words by the number of their training pictures.

    Raises:
        ResultError: a result cannot be read, or lacks a figure.
    """
    head = ("claim", "split", "model", "", "rival", "", "difference", "")
    rows = []
    for claim, task, figure, *models in CLAIMS:
        for split in SPLITS:
            one, other = (_seeds(results, task, model, split, figure) for model in models)
            cells = (models[0], _spread(one), models[1], _spread(other), *verdict(one, other))
            rows.append((claim, split, *cells))
    template = Path(__file__).with_name("models_report.md").read_text(encoding="utf-8")
    claims = markdown_table(head, rows)
    return template.format(
        claims=claims, words=words_table(words), tried=tried, named=named, found=found
    )


def words_table(results: Path) -> str:
    """Compare the word-by-word models by segments in training and losses, over seeds."""
    runs = {path.stem.partition("-")[2].rpartition("-")[0] for path in results.glob("words-*.json")}
    rows = [
        (
            *run.split("-"),
            *(
                _spread(_seeds(results, task, run, split, figure))
                for task, split, figure in WORD_FIGURES.values()
            ),
        )
        for run in sorted(runs)
    ]
    return markdown_table(("segments", "losses", *WORD_FIGURES), rows)


def demo_table(trained: Mapping[str, TaskResult], shipped: Mapping[str, TaskResult]) -> str:
    """Compare the model that the demo trained with the shipped one and with chance.

    Args:
        trained, shipped: results of each by benchmark.
    """
    rows = []
    for split in SPLITS:
        for name, (task, figure, chance) in DEMO_FIGURES.items():
            found = ((trained, figure), (shipped, figure), (trained, chance))
            cells = (reduce(getitem, keys, by[task].metrics[split]) for by, keys in found)
            rows.append((split, name, *(f"{value:.1f}" for value in cells)))
    steps = [by["retrieval"].protocol.get("training_steps", "?") for by in (trained, shipped)]
    head = (
        "split",
        "percent",
        f"trained, {steps[0]} steps",
        f"shipped, {steps[1]} steps",
        "chance",
    )
    return (
        f"{DEMO} (mini) on stamps [mini: not comparable with published figures]\n\n"
        + markdown_table(head, rows)
        + "\n"
    )


def read_demo(folder: Path) -> dict[str, TaskResult]:
    """Read the demo's results of a model, by benchmark."""
    return {task: read_result(folder / f"{task}.json") for task in DEMO_TASKS}


def superb_table(results: Sequence[TaskResult]) -> str:
    """Report results on the SUPERB mini sets, an upstream a row, with the minutes of all.

    The best of a column is bold where it is more than `CERTAIN` standard errors of the difference
    beyond the next.
    """
    columns = [(name, metric) for name in SUPERB for metric in find_task(name).metrics]
    measured = {result.system for result in results}
    systems = [name for name in SYSTEMS if name in measured] + sorted(measured - {*SYSTEMS})
    cells = []
    for task, metric in columns:
        found = [_figures(results, system, task, metric) for system in systems]
        best = _certainly_best(found, metric)
        bold = [best is not None and one is best for one in found]
        written = [_cell(one, metric) for one in found]
        cells.append([f"**{w}**" if b else w for w, b in zip(written, bold, strict=True)])
    rows = []
    for system, row in zip(systems, zip(*cells, strict=True), strict=True):
        minutes = sum(result.wall_time for result in results if result.system == system) / 60
        rows.append((system, *row, f"{minutes:.0f}"))
    head = ("upstream", *(metric.label for _, metric in columns), "minutes")
    seeds = len({result.seed for result in results})
    several = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
    return (
        f"SUPERB's tasks on mini sets, test scores in percent, TWV as it is{several} "
        "[mini: not comparable with published figures]\n\n" + markdown_table(head, rows) + "\n"
    )


class _Figures(NamedTuple):
    """A system's figures of a column."""

    values: list[float]
    """Of each seed."""
    error: float | None
    """Standard error of their mean, where it is known."""


def _figures(
    results: Sequence[TaskResult], system: str, task: str, metric: Metric
) -> _Figures | None:
    found = [
        result.metrics["test"]
        for result in results
        if (result.system, result.task) == (system, task)
        and metric.key in result.metrics.get("test", {})
    ]
    if not found:
        return None
    factor = metric.to_percent if metric.percent else 1.0
    values = [factor * float(one[metric.key]) for one in found]
    if len(values) > 1:
        return _Figures(values, _error(values))
    own = found[0].get(f"{metric.key}_error")
    return _Figures(values, None if own is None else factor * float(own))


def _certainly_best(found: Sequence[_Figures | None], metric: Metric) -> _Figures | None:
    """Return the best figures where their difference from the next counts."""
    sign = 1 if metric.higher_is_better else -1
    known = sorted(filter(None, found), key=lambda one: -sign * fmean(one.values))
    errors = [one.error for one in known[:2] if one.error is not None]
    if len(errors) < 2:
        return None
    difference = abs(fmean(known[0].values) - fmean(known[1].values))
    return known[0] if difference > CERTAIN * math.hypot(*errors) else None


def verdict(one: Sequence[float], other: Sequence[float]) -> tuple[str, str]:
    """Compare figures over seeds: a difference counts above two standard errors of itself."""
    if min(len(one), len(other)) < 2:
        return "", "undecided: too few seeds"
    difference = fmean(one) - fmean(other)
    error = math.hypot(_error(one), _error(other))
    word = "undecided"
    if abs(difference) > CERTAIN * error:
        word = "holds" if difference > 0 else "does not hold"
    return f"{difference:+.1f} ± {error:.1f}", word


def _seeds(folder: Path, task: str, model: str, split: str, figure: Sequence[str]) -> list[float]:
    """Read a figure of all seeds of a model, in percent."""
    found: list[float] = []
    for path in sorted(folder.glob(f"{task}-{model}-seed*.json")):
        try:
            found.append(reduce(getitem, figure, read_result(path).metrics[split]))
        except KeyError as error:
            raise ResultError(f"'{path}' lacks {error} on {split}") from error
    return found


def _spread(values: Sequence[float]) -> str:
    """Write the mean over seeds, and the standard deviation of several."""
    mean = f"{fmean(values):.1f}" if values else "not trained"
    return mean + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return stdev(values) / math.sqrt(len(values))


def _cell(found: _Figures | None, metric: Metric) -> str:
    if found is None:
        return "-"
    if metric.percent:
        return _spread(found.values)
    error = f" ± {found.error:.3f}" if found.error is not None else ""
    return f"{fmean(found.values):.3f}{error}"
