"""SUPERB's query by example on QUESST 2014: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..task import Layout, Metric, Scores, Task, Values, first_existing

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..plan import Plan

DATABASE = ("quesst14Database", ".")


def _place(root: Path) -> Values:
    return {"datarc": {"dataset_root": str(first_existing(root, *DATABASE))}}


def _evaluate(
    plan: Plan, upstream: nn.Module, device: torch.device
) -> tuple[Scores, Mapping[str, Any]]:
    from ..qbe import evaluate_qbe

    return evaluate_qbe(plan, upstream, device)


TASK = Task(
    name="quesst14_dtw",
    short="qbe",
    title="query by example",
    metrics=(Metric(key="maxTWV", label="QbE maxTWV", column="QbE", percent=False),),
    layout=Layout(
        title="QUESST 2014",
        fetch="speech.fit.vutbr.cz (quesst14Database.tgz)",
        text="quesst14Database/ with Audio/, dev_queries/, eval_queries/, scoring/",
        needed=("|".join(f"{name}/scoring/language_key_utterances.lst" for name in DATABASE),),
        place=_place,
        key="datarc.dataset_root",
    ),
    evaluate=_evaluate,
)
