"""Settings of the models that were tried beside the recipe's, and the table of what they gave."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from ...results import markdown_table
from ...structures import TaskResult
from ..sets.stamps import DEV_SPLITS
from .report import RECALL

TRIED_STEPS = 1000
TRIALS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "hybrid": ("speechclip_hybrid", {}),
    "hybrid, batches of 256": ("speechclip_hybrid", {"data": {"batch_size": 256}}),
    "hybrid, dropout 0.1 for 0.2": (
        "speechclip_hybrid",
        {"model": {"attention": {"dropout": 0.1}}},
    ),
    "hybrid, stamps alone": ("speechclip_hybrid", {"data": {"also": []}}),
    "hybrid, English alone": ("speechclip_hybrid", {"data": {"languages": ["en"]}}),
    "hybrid, 2 keywords for 4": ("speechclip_hybrid", {"model": {"keywords": {"number": 2}}}),
    "plus": ("speechclip_plus", {}),
    "plus, 30 frames a keyword for 20": (
        "speechclip_plus",
        {"model": {"cif": {"frames_per_keyword": 30}}},
    ),
}
"""Variant, and the one thing that differs from the recipe; plus begins with the shipped hybrid."""
FIGURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "parallel recall@10": ("retrieval", RECALL),
    "cascaded recall@10": ("retrieval", ("cascaded", "mean", "recall@10")),
    "hit rate": ("keywords", ("without_stop_words", "hit_rate", "mean")),
    "words found": ("keywords", ("without_stop_words", "words", "recall")),
    "duplicates": ("keywords", ("counts", "duplicates")),
}
"""Figures of the settings that were tried: benchmark and figure."""


def tried_figures(result: TaskResult) -> dict[str, float]:
    """Return a trial's figures on each split that has them, by what the table calls them."""
    found = {}
    for figure, (task, keys) in FIGURES.items():
        for split, metrics in result.metrics.items():
            if task == result.task and keys[0] in metrics:
                found[f"{figure}, {split}"] = round(float(reduce(getitem, keys, metrics)), 2)
    return found


def tried_table(path: Path) -> str:
    """Lay out the settings that were tried, a row each, a figure on both validation splits."""
    trials = pd.read_csv(path)
    table = {"setting": trials["setting"]}
    for figure in FIGURES:
        splits = [trials[f"{figure}, {split}"].map("{:.1f}".format) for split in DEV_SPLITS]
        table[figure] = splits[0].str.cat(splits[1:], " / ").str.replace("nan / nan", "-")
    return markdown_table(table, zip(*table.values(), strict=True))
