"""SUPERB's speaker verification on VoxCeleb1."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from ...errors import ConfigError
from ..task import Layout, Metric, Task, Values

LISTS = {
    "train_meta_data": "dev_speaker_ids.txt",
    "dev_meta_data": "dev_meta_data.txt",
    "test_meta_data": "voxceleb1_test_v2.txt",
}


NEEDED = ("sox", "librosa", "joblib")  # packages that s3prl's modules import


def _prepare(section: Values, folder: Path) -> None:
    import torchaudio

    from .. import sox_effects

    installed = {distribution.name for distribution in metadata.distributions()}
    missing = [f"the package {name}" for name in NEEDED if name not in installed]
    if torchaudio.sox_effects is sox_effects:
        missing.append("torchaudio below 2.9, whose SoX effect 'silence' it trims recordings with")
    if missing:
        raise ConfigError(f"s3prl's speaker verification needs {', '.join(missing)}: install them")


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
    prepare=_prepare,
)
