"""SUPERB's speaker diarization on LibriMix."""

from __future__ import annotations

from pathlib import Path

from ..task import Layout, Metric, Task, Values


def _place(root: Path) -> Values:
    return {"loaderrc": {f"{split}_dir": str(root / split) for split in ("train", "dev", "test")}}


TASK = Task(
    name="diarization",
    short="sd",
    title="speaker diarization",
    # No column of the leaderboard: another program computes the official error rate.
    metrics=(Metric(key="acc", label="SD acc"),),
    layout=Layout(
        title="LibriMix",
        fetch="the LibriMix project, prepared as SUPERB's SD documentation says",
        text="{train,dev,test}/ in Kaldi's layout (wav.scp, utt2spk, segments, reco2dur)",
        needed=("train", "dev", "test"),
        place=_place,
        key="loaderrc.train_dir",
    ),
)
