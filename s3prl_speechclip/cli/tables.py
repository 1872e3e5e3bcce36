"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..structures import TaskResult

KS = (1, 5, 10)
HEAD = ("split", "embedding", *(f"S>I R@{k}" for k in KS), *(f"I>S R@{k}" for k in KS))


def retrieval_table(result: TaskResult) -> str:
    """Lay a retrieval result out as a Markdown table, chance in a row of its own per split."""
    rows: list[tuple[str, ...]] = []
    for split, metrics in result.metrics.items():
        named = [n for n in ("parallel", "cascaded", "sum") if n in metrics]
        rows += [(split, name, *_cells(metrics[name])) for name in named]
        rows.append((split, "chance", *_cells(metrics["chance"])))
    counts = ", ".join(
        f"{split}: {m['recordings']:,} recordings, {m['images']:,} images"
        for split, m in result.metrics.items()
    )
    return "\n".join([_title(result, "recall"), counts, "", markdown_table(HEAD, rows)])


KEYWORD_HEAD = (
    "split",
    "caption",
    "hit rate",
    "chance",
    "shuffled",
    "words P",
    "words R",
    "words F1",
    "tokens F1",
    "keywords",
    "words",
    "duplicates",
)


def keyword_table(result: TaskResult) -> str:
    """Lay a keyword result out as a Markdown table, with and without stop words."""
    rows: list[tuple[str, ...]] = []
    for split, metrics in result.metrics.items():
        counts = metrics["counts"]
        for key, name in (("with_stop_words", "whole"), ("without_stop_words", "no stop words")):
            hits, words = metrics[key]["hit_rate"], metrics[key]["words"]
            figures = (
                hits["mean"],
                hits["chance"],
                hits["shuffled"],
                words["precision"],
                words["recall"],
                words["f1"],
                metrics[key]["tokens"]["f1"],
                counts["keywords"],
                counts["words"],
                counts["duplicates"],
            )
            rows.append((split, name, *(f"{figure:.1f}" for figure in figures)))
    recordings = ", ".join(
        f"{split}: {m['recordings']:,} English recordings" for split, m in result.metrics.items()
    )
    title = _title(result, "keywords")
    return "\n".join([title, recordings, "", markdown_table(KEYWORD_HEAD, rows)])


WORD_HEAD = (
    "split",
    "words",
    "recognition",
    ">= 75 %",
    "perfect",
    "related",
    "bucketing",
    "default",
    "unexpected",
    "boundaries",
    "P 50 ms",
    "R 50 ms",
    "F1 50 ms",
    "R-value",
)


def word_table(result: TaskResult) -> str:
    """Lay a word discovery result out as a Markdown table, a row for each segmentation."""
    rows: list[tuple[str, ...]] = []
    for split, metrics in result.metrics.items():
        shares = metrics["patterns"]
        figures = (
            metrics["recognition"],
            metrics["recognised_well"],
            shares["perfect match"],
            shares["semantically related"],
            shares["bucketing"],
            shares["default token"],
            shares["unexpected"],
        )
        first = (split, f"{metrics['words']:,}", *(f"{figure:.1f}" for figure in figures))
        for way, scores in metrics["segmentation"].items():
            found = [scores["50ms"][name] for name in ("precision", "recall", "f1", "r_value")]
            rows.append((*first, way, *(f"{figure:.1f}" for figure in found)))
    return "\n".join([_title(result, "words"), "", markdown_table(WORD_HEAD, rows)])


def _title(result: TaskResult, what: str) -> str:
    title = f"{result.system} ({result.size}) on {result.corpus}, {what} in percent"
    return title + (" [mini: not comparable with published figures]" if result.mini else "")


def markdown_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Lay rows out in columns of even width that Markdown reads as a table."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    return [
        f"{metrics[direction][f'recall@{k}']:.1f}"
        for direction in ("speech_to_image", "image_to_speech")
        for k in KS
    ]
