"""What batch norm does to keywords: the slides' early set-up, trained with it and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...benchmarks.shared.benchmark import evaluate
from ...checkpoints.locate import Located
from ...data.corpora import load_corpus
from ...errors import ResultError
from ...pretrain.config import resolve_config
from ...pretrain.train import pretrain
from ...results import read_result, write_result
from ...structures import TaskResult
from .models import is_result_of

NAME = "speechclip_cascaded"
PRESET = "slides_mini"
NORMS: Mapping[str, str] = {"none": "without batch norm", "per_keyword": "with batch norm"}
"""`model.keywords.norm`, and what it is called."""
SPLITS = ("test_speaker", "test_image")
PLOTTED = 500  # recordings of each split


def train_both(runs: Path, results: Path, device: str = "auto") -> None:
    """Train the cascaded model with and without keyword batch norm, and measure its keywords.

    Args:
        runs: folder of experiments; what is there is gone on with.
        results: folder of result files and plots.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    manifest = load_corpus("stamps")
    for norm in NORMS:
        folder = runs / f"keyword_norm-{norm}"
        config = resolve_config(NAME, PRESET, model={"keywords": {"norm": norm}})
        pretrain(config, folder, auto_resume=True, device=device)
        located = Located(folder.as_posix(), "trained for the comparison")
        path = results / f"keywords-{NAME}-{norm}.json"
        if is_result_of(path, located):
            continue
        result = evaluate(
            located.source,
            "keywords",
            corpus=manifest,
            device=device,
            keep_states=True,
            plot=PLOTTED,
        )
        write_result(replace(result, seed=config.seed), path)


def read_both(results: Path) -> dict[str, TaskResult]:
    """Read the two results, by norm.

    Raises:
        ResultError: one is missing or cannot be read.
    """
    found = {norm: results / f"keywords-{NAME}-{norm}.json" for norm in NORMS}
    for path in found.values():
        if not path.is_file():
            raise ResultError(f"'{path}' is missing: run 'make mini' first")
    return {norm: read_result(path) for norm, path in found.items()}


def figures(
    both: Mapping[str, TaskResult],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give head and rows of the comparison.

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


def frequent(both: Mapping[str, TaskResult]) -> Sequence[tuple[str, str]]:
    """Give each model's commonest keywords of the held-out images with how often they came."""
    return [
        (
            NORMS[norm],
            ", ".join(f"{word} {count}" for word, count in result.metrics[SPLITS[1]]["frequent"]),
        )
        for norm, result in both.items()
    ]
