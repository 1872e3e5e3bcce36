"""Settings of the models that were tried beside the recipe's, and the table of what they gave."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from ...config import merge
from ...results import markdown_table
from ...structures import TaskResult
from ..sets.stamps import DEV_SPLITS
from .report import RECALL

TRIED_MODEL = "speechclip_hybrid"
TRIED_STEPS = 1000
NO_COST: Mapping[str, Any] = {"model": {"objective": {"repetition_weight": 0.0}}}
FOUR = merge(NO_COST, {"model": {"keywords": {"number": 4}}})
NAMED = merge(FOUR, {"data": {"also": ["named_pictures"]}})
TRIALS: Mapping[str, Mapping[str, Any]] = {
    "the recipe": {},
    "no cost of repetition": NO_COST,
    "one keyword": {"model": {"keywords": {"number": 1}}},
    "three keywords, repetition weighs 2": {
        "model": {"keywords": {"number": 3}, "objective": {"repetition_weight": 2.0}}
    },
    "two layers of attention": {"model": {"attention": {"layers": 2}}},
    "dropout 0.4 for 0.2": {"model": {"attention": {"dropout": 0.4}}},
    "2,500 steps": {"runner": {"total_steps": 2500}},
    "named_pictures too": {"data": {"also": ["named_pictures"]}},
    "four keywords, repetition weighs 3": merge(
        FOUR, {"model": {"objective": {"repetition_weight": 3.0}}}
    ),
    "four keywords, repetition weighs 1": merge(
        FOUR, {"model": {"objective": {"repetition_weight": 1.0}}}
    ),
    "four keywords, no cost of repetition": FOUR,
    "..., CLS tokens of deviation 0.3 for 0.02": merge(
        FOUR, {"model": {"attention": {"cls_std": 0.3}}}
    ),
    "..., dropout 0.4 for 0.2": merge(FOUR, {"model": {"attention": {"dropout": 0.4}}}),
    "..., batches of 1,024": merge(FOUR, {"data": {"batch_size": 1024}}),
    "..., named_pictures too": NAMED,
    "..., named_pictures too, batches of 256": merge(NAMED, {"data": {"batch_size": 256}}),
    "..., named_pictures too, dropout 0.1 for 0.2": merge(
        NAMED, {"model": {"attention": {"dropout": 0.1}}}
    ),
    "..., named_pictures too, English alone": merge(NAMED, {"data": {"languages": ["en"]}}),
}
"""Changes to the recipe's configuration, by the name of the setting."""
FIGURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "parallel recall@10": ("retrieval", RECALL),
    "cascaded recall@10": ("retrieval", ("cascaded", "mean", "recall@10")),
    "hit rate": ("keywords", ("without_stop_words", "hit_rate", "mean")),
    "hit rate by chance": ("keywords", ("without_stop_words", "hit_rate", "chance")),
    "words found": ("keywords", ("without_stop_words", "words", "recall")),
    "duplicates": ("keywords", ("counts", "duplicates")),
}
"""Figures of the settings that were tried: benchmark and figure."""


def tried_figures(result: TaskResult) -> dict[str, float]:
    """Return the figures of a trial's result, by what the table calls them and by split."""
    return {
        f"{figure}, {split}": round(float(reduce(getitem, keys, metrics)), 2)
        for figure, (task, keys) in FIGURES.items()
        for split, metrics in result.metrics.items()
        if task == result.task
    }


def tried_table(path: Path) -> str:
    """Lay out the settings that were tried, a row each, a figure on both validation splits."""
    trials = pd.read_csv(path)
    table = {"setting": trials["setting"], "hardware": trials["hardware"]}
    for figure in FIGURES:
        splits = [trials[f"{figure}, {split}"].map("{:.1f}".format) for split in DEV_SPLITS]
        table[figure] = splits[0].str.cat(splits[1:], " / ")
    return markdown_table(table, zip(*table.values(), strict=True))
