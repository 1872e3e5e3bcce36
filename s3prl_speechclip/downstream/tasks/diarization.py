"""SUPERB's speaker diarization on LibriMix."""

from __future__ import annotations

from pathlib import Path

from ...errors import CorpusError
from ..task import Layout, Metric, Task, Values


def _place(root: Path) -> Values:
    return {"loaderrc": {f"{split}_dir": str(root / split) for split in ("train", "dev", "test")}}


def _prepare(section: Values, folder: Path) -> None:
    for key, value in section["loaderrc"].items():
        if key.endswith("_dir"):
            check_wav_scp(Path(value) / "wav.scp")


def check_wav_scp(path: Path) -> None:
    """Check that a list of recordings names files only; s3prl gives a command to a shell.

    Raises:
        CorpusError: an entry is a command, which ends in `|`, or standard input, `-`.
    """
    if not path.is_file():  # s3prl lists the folder `wav` then
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip().endswith("|") or line.split()[1:] == ["-"]:
                raise CorpusError(
                    f"'{path}' line {number}: expected the path of a recording, found "
                    f"'{line.strip()[:60]}'; commands are not run, write their output to a file "
                    "and name that"
                )


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
    prepare=_prepare,
)
