"""SUPERB's speaker verification on VoxCeleb1."""

from __future__ import annotations

from pathlib import Path

from ..task import Layout, Metric, Task, Values

LISTS = {
    "train_meta_data": "dev_speaker_ids.txt",
    "dev_meta_data": "dev_meta_data.txt",
    "test_meta_data": "voxceleb1_test_v2.txt",
}


def _place(root: Path) -> Values:
    lists = {key: str(root / name) for key, name in LISTS.items()}
    return {"datarc": {"file_path": str(root), **lists}}


TASK = Task(
    name="sv_voxceleb1",
    short="asv",
    title="speaker verification",
    metrics=(Metric(key="EER", label="ASV EER", column="ASV", higher_is_better=False),),
    layout=Layout(
        title="VoxCeleb1",
        fetch="the VoxCeleb project, and the lists beside s3prl's task of that name",
        text="{dev,test}/wav/id1XXXX/<video>/*.wav, dev_speaker_ids.txt, dev_meta_data.txt, "
        "voxceleb1_test_v2.txt",
        needed=("dev/wav", "test/wav", "voxceleb1_test_v2.txt"),
        place=_place,
        key="datarc.file_path",
    ),
)
