"""SUPERB's speaker identification on VoxCeleb1."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ...data.files import read_text
from ...errors import CorpusError
from ..heads import classes
from ..task import Layout, Metric, Task, Values, first_existing

FIRST, SPEAKERS = 10001, 1251  # number of the first speaker, and how many there are
LINE = re.compile(r"[123]\s+(?P<path>id(?P<speaker>\d+)/\S+\.wav)")
SPLITS = ("iden_split.txt", "veri_test_class.txt")


def _place(root: Path) -> Values:
    split = first_existing(root, *SPLITS)
    return {"datarc": {"file_path": str(root), "meta_data": str(split)}}


def _prepare(section: Values, folder: Path) -> None:
    from ..compat import import_without

    dataset = import_without("s3prl.downstream.voxceleb1.dataset", "librosa", "librosa.util")
    data = section["datarc"]
    _check_split_file(Path(data["file_path"]), Path(data["meta_data"]))
    # s3prl keeps its lists of files inside the installed package, and reads them for any corpus.
    dataset.CACHE_PATH = tempfile.mkdtemp(dir=folder, prefix="file_lists-")


def _remove_file_lists(expert: Any) -> None:
    from s3prl.downstream.voxceleb1 import dataset

    shutil.rmtree(dataset.CACHE_PATH)


def _check_split_file(root: Path, split_file: Path) -> None:
    """Check the official split, lines of a number (1: train, 2: dev, 3: test) and a path."""
    folders = sorted(root.glob("*/wav"))
    for number, line in enumerate(read_text(split_file).splitlines(), 1):
        match = LINE.fullmatch(line.strip())
        if match is None or not 1 <= int(match["speaker"]) - FIRST + 1 <= SPEAKERS:
            raise CorpusError(
                f"'{split_file}' line {number}: expected '1, 2 or 3' and "
                f"'id1XXXX/<video>/<number>.wav' of the speakers id{FIRST} to "
                f"id{FIRST + SPEAKERS - 1}, found '{line[:60]}'"
            )
        if not any((folder / match["path"]).is_file() for folder in folders):
            raise CorpusError(
                f"'{split_file}' line {number}: no recording '{match['path']}' below "
                f"'{root}/*/wav'; restore it or remove the line"
            )


def _speakers(expert: Any) -> list[str]:
    data = expert.train_dataset
    return [str(name) for name in data.label2speaker(range(data.speaker_num))]


TASK = Task(
    name="voxceleb1",
    short="sid",
    title="speaker identification",
    metrics=(Metric(key="acc", label="SID acc", column="SID"),),
    pooled=True,
    head=classes(_speakers),
    layout=Layout(
        title="VoxCeleb1",
        fetch="the VoxCeleb project",
        text="{dev,test}/wav/id1XXXX/<video>/*.wav and iden_split.txt",
        needed=("|".join(SPLITS),),
        place=_place,
        key="datarc.file_path",
        published={
            "iden_split.txt|veri_test_class.txt": 138_361 + 6_904 + 8_251,
        },
    ),
    prepare=_prepare,
    correct=_remove_file_lists,
)
