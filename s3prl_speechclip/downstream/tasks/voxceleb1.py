"""SUPERB's speaker identification on VoxCeleb1."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

from ..task import Layout, Metric, Task, Values, first_existing

SPLITS = ("iden_split.txt", "veri_test_class.txt")


def _place(root: Path) -> Values:
    split = first_existing(root, *SPLITS)
    return {"datarc": {"file_path": str(root), "meta_data": str(split)}}


def _prepare(section: Values, folder: Path) -> None:
    if "librosa" not in sys.modules and importlib.util.find_spec("librosa") is None:
        # s3prl imports its `find_files`, and never calls it.
        util = types.ModuleType("librosa.util")
        vars(util)["find_files"] = None
        librosa = types.ModuleType("librosa")
        vars(librosa)["util"] = util
        sys.modules |= {"librosa": librosa, "librosa.util": util}
    from s3prl.downstream.voxceleb1 import dataset

    # Its lists of files would be kept inside the installed package, for any corpus.
    dataset.CACHE_PATH = str(folder / "file_lists")


TASK = Task(
    name="voxceleb1",
    short="sid",
    title="speaker identification",
    metrics=(Metric(key="acc", label="SID acc", column="SID"),),
    layout=Layout(
        title="VoxCeleb1",
        fetch="the VoxCeleb project",
        text="{dev,test}/wav/id1XXXX/<video>/*.wav and iden_split.txt",
        needed=("|".join(SPLITS),),
        place=_place,
        key="datarc.file_path",
    ),
    prepare=_prepare,
)
