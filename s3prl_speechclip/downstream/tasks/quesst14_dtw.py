"""SUPERB's query by example on QUESST 2014: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.files import read_text
from ...errors import CorpusError
from ..ctc_corpora import require_recording
from ..task import Layout, Metric, Scores, Task, Values, first_existing

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..plan import Plan

ENGLISH = "nnenglish"  # the only language of SUPERB's task
LISTS = tuple(f"language_key_{part}.lst" for part in ("utterances", "dev", "eval"))
DATABASE = ("quesst14Database", ".")


def _place(root: Path) -> Values:
    return {"datarc": {"dataset_root": str(first_existing(root, *DATABASE))}}


def _check_lists(section: Values, folder: Path) -> None:
    """Check the lists of documents and queries, lines of a path and a language."""
    root = Path(section["datarc"]["dataset_root"])
    for name in LISTS:
        path = root / "scoring" / name
        english = 0
        for number, line in enumerate(read_text(path).splitlines(), 1):
            fields = line.split()
            if len(fields) != 2:
                raise CorpusError(
                    f"'{path}' line {number}: expected a path and a language, found '{line[:60]}'"
                )
            if fields[1] == ENGLISH:
                # Paths begin with the root's name.
                require_recording(path, number, root / fields[0].partition("/")[2])
                english += 1
        if not english:
            raise CorpusError(f"'{path}' lists no recording in English ({ENGLISH}); restore it")


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
        published={
            "|".join(f"{name}/scoring/{names}" for name in DATABASE): size
            for names, size in zip(LISTS, (12_492, 560, 555), strict=True)
        },
    ),
    prepare=_check_lists,
    evaluate=_evaluate,
)
