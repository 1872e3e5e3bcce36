"""SUPERB's intent classification on Fluent Speech Commands."""

from __future__ import annotations

from ..task import Layout, Metric, Task

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
)
