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
    title = f"{result.system} ({result.size}) on {result.corpus}, recall in percent"
    if result.mini:
        title += " [mini: not comparable with published figures]"
    counts = ", ".join(
        f"{split}: {m['recordings']:,} recordings, {m['images']:,} images"
        for split, m in result.metrics.items()
    )
    return "\n".join([title, counts, "", markdown_table(HEAD, rows)])


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
