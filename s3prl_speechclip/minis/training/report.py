"""Reports on the models that are trained on the mini encoders, as Markdown, from result files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ...errors import ResultError
from ...model.config import VARIANTS
from ...pretrain.config import resolve_config
from ...results import markdown_table, read_result
from ...structures import TaskResult
from .models import NORM_MODEL, NORM_PRESET, NORMS

DEMO = "speechclip_hybrid"
"""Model of the demo."""
SUPERB_RESULTS = Path("benchmarks") / "results" / "superb_mini"
SPLITS = ("test_speaker", "test_image")
DIRECTIONS = ("speech_to_image", "image_to_speech")
ARROWS = {"speech_to_image": "S>I", "image_to_speech": "I>S"}
CERTAIN = 2.0  # standard errors
SYSTEMS = ("speechclip_plus", "speechclip_hybrid", "speechclip_encoder", "fbank_no_cmvn")
SUPERB_COLUMNS = (
    ("IC acc", "fluent_commands", "acc"),
    ("SF F1", "snips", "slot_type_f1"),
    ("SF CER", "snips", "slot_value_cer"),
    ("PR PER", "libriphone", "per"),
    ("KS acc", "speech_commands", "acc"),
    ("QbE maxTWV", "quesst14_dtw", "maxTWV"),
)
"""Heading, task, metric on test; shown in percent, as SUPERB does but for TWV."""


def models_report(results: Path) -> str:
    """Report the five models over seeds, and the papers' claims."""
    runs = read_runs(results)
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
            markdown_table(*recall_rows(runs)),
            "",
            "## Keywords",
            "",
            "Hit rate: keywords with a token of the English caption among their five nearest; "
            "keywords: how many an utterance has.",
            "",
            markdown_table(*keyword_rows(runs)),
            "",
            "## The papers' claims, in miniature",
            "",
            "A difference counts where it exceeds two standard errors over seeds. All runs are "
            "equally short: a model whose hit rate is no higher than chance has not learned to "
            "name words yet, and a line about it says which model learns sooner, not which is "
            "better in the end.",
            "",
            *(f"- {line}" for line in claims(runs)),
            "",
        ]
    )


def norm_report(results: Path) -> str:
    """Report keywords with and without batch norm."""
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
    rows = []
    for system in order:
        found = by_system[system]
        cells = [_cell(found.get(task), metric) for _, task, metric in SUPERB_COLUMNS]
        minutes = sum(result.wall_time for result in found.values()) / 60
        rows.append((system, *cells, f"{minutes:.0f}"))
    head = ("upstream", *(title for title, _, _ in SUPERB_COLUMNS), "minutes")
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


@dataclass(frozen=True)
class Runs:
    """One model's results over seeds."""

    name: str
    retrieval: tuple[TaskResult, ...]
    keywords: tuple[TaskResult, ...]

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Embeddings of the model, such as parallel, cascaded and their sum."""
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
    """Return head and rows of the recall table: recall@10 in percent, mean and deviation."""
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
    """Return head and rows of the keyword table."""
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
    """Test each claim of the papers here.

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


def _cell(result: TaskResult | None, metric: str) -> str:
    if result is None or metric not in result.metrics.get("test", {}):
        return "-"
    value = float(result.metrics["test"][metric])
    return f"{value:.3f}" if metric == "maxTWV" else f"{100 * value:.1f}"


def _verdict(one: Spread, other: Spread) -> str:
    difference = one.mean - other.mean
    error = math.sqrt(one.deviation**2 / len(one.values) + other.deviation**2 / len(other.values))
    word = "undecided"
    if min(len(one.values), len(other.values)) < 2:
        return f"{one} against {other}, one seed: **{word}**."
    if abs(difference) > CERTAIN * error:
        word = "holds" if difference > 0 else "does not hold"
    return f"{one} against {other}, difference {difference:+.1f} ± {error:.1f}: **{word}**."
