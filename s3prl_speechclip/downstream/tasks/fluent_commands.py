"""SUPERB's intent classification on Fluent Speech Commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...data.files import read_table
from ...errors import CorpusError
from ..ctc_corpora import require_recording
from ..heads import slots
from ..task import Layout, Metric, Task, Values

SLOTS = ("action", "object", "location")


def _check_tables(section: Values, folder: Path) -> None:
    """Check the three tables against the recordings and one another."""
    root = Path(section["datarc"]["file_path"])
    known: dict[str, set[str]] = {slot: set() for slot in SLOTS}
    for split in ("train", "valid", "test"):
        path = root / "data" / f"{split}_data.csv"
        for number, row in read_table(path, ("path", *SLOTS)):
            require_recording(path, number, root / row["path"])
            for slot in SLOTS:
                if split == "train":
                    known[slot].add(row[slot])
                elif row[slot] not in known[slot]:
                    raise CorpusError(
                        f"'{path}' line {number}: the {slot} '{row[slot]}' is not in "
                        "train_data.csv, so that no model can learn it; remove the line"
                    )


def _names(expert: Any) -> dict[str, list[str]]:
    """Return the values of each slot, in the order of the head's outputs."""
    counts = zip(SLOTS, expert.values_per_slot, strict=True)
    return {slot: [str(expert.Sy_intent[slot][k]) for k in range(n)] for slot, n in counts}


TASK = Task(
    name="fluent_commands",
    short="ic",
    title="intent classification",
    metrics=(Metric(key="acc", label="IC acc", column="IC"),),
    pooled=True,
    head=slots(_names),
    layout=Layout(
        title="Fluent Speech Commands",
        fetch="fluent.ai",
        text="data/{train,valid,test}_data.csv, wavs/speakers/<speaker>/*.wav",
        needed=("data/train_data.csv", "data/valid_data.csv", "data/test_data.csv"),
        place=lambda root: {"datarc": {"file_path": str(root)}},
        key="datarc.file_path",
        published={
            "data/train_data.csv": 1 + 23_132,
            "data/valid_data.csv": 1 + 3_118,
            "data/test_data.csv": 1 + 3_793,
        },
    ),
    prepare=_check_tables,
)
