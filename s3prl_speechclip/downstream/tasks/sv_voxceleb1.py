"""SUPERB's speaker verification on VoxCeleb1.

s3prl's module imports packages that it hardly uses, keeps the lengths of recordings in its own
folder whatever corpus they are of, and needs a GPU: mended here.
"""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.files import read_lines
from ...errors import CorpusError
from ..ctc_corpora import require_recording
from ..task import Layout, Metric, Task, Values

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "s3prl.downstream.sv_voxceleb1.dataset"
LISTS = {
    "train_meta_data": "dev_speaker_ids.txt",
    "dev_meta_data": "dev_meta_data.txt",
    "test_meta_data": "voxceleb1_test_v2.txt",
}
FEW = 500  # recordings that one process measures


def _place(root: Path) -> Values:
    lists = {key: str(root / name) for key, name in LISTS.items()}
    return {"datarc": {"file_path": str(root), **lists}}


def _prepare(section: Values, folder: Path) -> None:
    """Check the lists of trials, and import s3prl's data set without sox and librosa."""
    data = section["datarc"]
    for key, part in (("dev_meta_data", "dev"), ("test_meta_data", "test")):
        path = Path(data[key])
        for number, line in enumerate(read_lines(path), 1):
            fields = line.split()
            if len(fields) != 3 or fields[0] not in ("0", "1"):
                raise CorpusError(
                    f"'{path}' line {number}: expected 0 or 1 and two recordings, found "
                    f"'{line[:60]}'"
                )
            for name in fields[1:]:
                require_recording(path, number, Path(data["file_path"]) / part / "wav" / name)
    from ..compat import import_without

    module = import_without(MODULE, "sox", "librosa", "librosa.util")
    module.SpeakerVerifi_train.__init__ = _list_recordings


def _list_recordings(
    self: Any,
    vad_config: Values,
    key_list: list[str],
    file_path: list[Path],
    meta_data: str,
    max_timestep: int | None = None,
) -> None:
    """List the recordings that are long enough without their silences, and the speakers."""
    from joblib import Parallel, delayed

    (root,) = file_path
    paths = sorted(str(path) for path in root.rglob("*.wav") if not path.name.startswith("."))
    processes = 1 if len(paths) <= FEW else os.cpu_count()
    lengths = Parallel(n_jobs=processes)(delayed(_trimmed_length)(path) for path in paths)
    least = vad_config["min_sec"]
    self.dataset = [path for path, n in zip(paths, lengths, strict=True) if n > least]
    if not self.dataset:
        raise CorpusError(
            f"no recording below '{root}' has more than {least} samples without its silences "
            "(downstream_expert.datarc.vad_config.min_sec)"
        )
    self.all_speakers = sorted(path.stem for path in root.iterdir() if path.is_dir())
    self.speaker_num = len(self.all_speakers)
    self.max_timestep = max_timestep


def _trimmed_length(path: str) -> int:
    from .. import compat

    compat.apply()  # in a process of its own
    from s3prl.downstream.sv_voxceleb1.dataset import EFFECTS
    from torchaudio.sox_effects import apply_effects_file

    return int(apply_effects_file(path, EFFECTS)[0].shape[1])


def _correct(expert: Any) -> None:
    expert.forward = types.MethodType(_forward, expert)


def _forward(
    self: Any,
    mode: str,
    features: list[Tensor],
    names: list[str],
    labels: Any = None,
    records: Any = None,
    **kwargs: Any,
) -> Tensor:
    """Compute the loss of a batch, or keep the embeddings of its recordings, on any device."""
    import torch
    from torch.nn import functional as F
    from torch.nn.utils.rnn import pad_sequence

    lost = 14 if self.modelrc["module"] == "XVector" else 0  # frames, by its convolutions
    masks = [torch.ones(len(own) - lost, device=own.device) for own in features]
    mask = (1.0 - pad_sequence(masks, batch_first=True)) * -100000.0
    padded = self.connector(pad_sequence(features, batch_first=True))
    if mode == "train":
        loss: Tensor = self.objective(
            self.model(padded, mask), torch.as_tensor(labels, device=padded.device)
        )
        records["loss"].append(loss.item())
        return loss
    vectors = F.normalize(self.model.inference(padded, mask), dim=-1)
    for name, vector in zip(names, vectors, strict=True):
        records[name] = vector.cpu().detach()
    return torch.tensor(0)


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
        needed=("dev/wav", "test/wav", "voxceleb1_test_v2.txt", "dev_meta_data.txt"),
        place=_place,
        key="datarc.file_path",
        published={"voxceleb1_test_v2.txt": 37_720},
    ),
    prepare=_prepare,
    correct=_correct,
)
