"""SUPERB's intent classification on Fluent Speech Commands."""

from __future__ import annotations

import csv
from pathlib import Path

from ...errors import CorpusError
from ..task import Layout, Metric, Task, Values

SLOTS = ("action", "object", "location")


def _check_tables(section: Values, folder: Path) -> None:
    """Check the three tables against the recordings and one another."""
    root = Path(section["datarc"]["file_path"])
    known: dict[str, set[str]] = {slot: set() for slot in SLOTS}
    for split in ("train", "valid", "test"):
        path = root / "data" / f"{split}_data.csv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        missing = {"path", *SLOTS} - set(reader.fieldnames or ())
        if missing:
            raise CorpusError(
                f"'{path}' has no column {', '.join(sorted(missing))}; expected those of "
                "Fluent Speech Commands"
            )
        for number, row in enumerate(rows, 2):
            if not (root / row["path"]).is_file():
                raise CorpusError(
                    f"'{path}' line {number}: no recording '{root / row['path']}'; restore it or "
                    "remove the line"
                )
            for slot in SLOTS:
                if split == "train":
                    known[slot].add(row[slot])
                elif row[slot] not in known[slot]:
                    raise CorpusError(
                        f"'{path}' line {number}: the {slot} '{row[slot]}' is not in "
                        "train_data.csv, so that no model can learn it; remove the line"
                    )


TASK = Task(
    name="fluent_commands",
    short="ic",
    title="intent classification",
    metrics=(Metric(key="acc", label="IC acc", column="IC"),),
    layout=Layout(
        title="Fluent Speech Commands",
        fetch="fluent.ai",
        text="data/{train,valid,test}_data.csv, wavs/speakers/<speaker>/*.wav",
        needed=("data/train_data.csv", "data/valid_data.csv", "data/test_data.csv"),
        place=lambda root: {"datarc": {"file_path": str(root)}},
        key="datarc.file_path",
    ),
    prepare=_check_tables,
)
