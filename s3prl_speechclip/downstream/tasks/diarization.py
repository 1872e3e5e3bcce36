"""SUPERB's speaker diarization on LibriMix."""

from __future__ import annotations

from pathlib import Path

from ...data.files import read_lines
from ...errors import CorpusError
from ..task import Layout, Metric, Task, Values


def _place(root: Path) -> Values:
    return {"loaderrc": {f"{split}_dir": str(root / split) for split in ("train", "dev", "test")}}


def _prepare(section: Values, folder: Path) -> None:
    folders = [Path(v) for key, v in section["loaderrc"].items() if key.endswith("_dir")]
    for split in folders:  # commands are refused before anything else is read
        check_wav_scp(split / "wav.scp")
    for split in folders:
        _check_folder(split, section["datarc"]["num_speakers"])


def _check_folder(folder: Path, speakers: int) -> None:
    """Check that each recording of a Kaldi folder is a file with a duration and segments."""
    listed = folder / "wav.scp"
    paths = check_wav_scp(listed)
    durations = _table(folder / "reco2dur", 2)
    speaker_of = {utterance: name for utterance, name in _table(folder / "utt2spk", 2)}
    found: dict[str, set[str]] = {}
    for utterance, recording, *_ in _table(folder / "segments", 4):
        if utterance not in speaker_of:
            raise CorpusError(f"'{folder / 'utt2spk'}' lacks '{utterance}', a line of segments")
        found.setdefault(recording, set()).add(speaker_of[utterance])
    for name, path in paths.items():
        if not Path(path).is_file():
            raise CorpusError(f"'{listed}': no recording '{path}'; restore it or remove the line")
        for table, known in (("reco2dur", dict(durations)), ("segments", found)):
            if name not in known:
                raise CorpusError(f"'{folder / table}' lacks '{name}', which wav.scp lists")
        if len(found[name]) > speakers:
            raise CorpusError(
                f"'{folder / 'segments'}': {len(found[name])} speakers in '{name}', expected at "
                f"most {speakers} (downstream_expert.datarc.num_speakers)"
            )


def _table(path: Path, columns: int) -> list[list[str]]:
    """Read a table of Kaldi's."""
    rows = [line.split() for line in read_lines(path)]
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise CorpusError(f"'{path}' line {number}: expected {columns} fields, found {row}")
    return rows


def check_wav_scp(path: Path) -> dict[str, str]:
    """Check that a list of recordings names files only; s3prl gives a command to a shell.

    Returns:
        Paths by recording; empty where there is no list, and s3prl lists the folder `wav`.

    Raises:
        CorpusError: an entry is a command, which ends in `|`, or standard input, `-`.
    """
    paths = {}
    for number, line in enumerate(read_lines(path) if path.is_file() else (), 1):
        name, _, rest = line.partition(" ")
        if line.endswith("|") or rest.strip() in ("", "-"):
            raise CorpusError(
                f"'{path}' line {number}: expected a name and the path of a recording, found "
                f"'{line[:60]}'; commands are not run, write their output to a file and name that"
            )
        paths[name] = rest.strip()
    return paths


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
        published={
            "train/wav.scp": 13_900,
            "dev/wav.scp": 3_000,
            "test/wav.scp": 3_000,
        },
    ),
    prepare=_prepare,
)
