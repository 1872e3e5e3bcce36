"""SUPERB's speech recognition on LibriSpeech, with s3prl's `asr` expert."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ...errors import CorpusError
from ..ctc_corpora import LIBRISPEECH, find_flac, transcripts
from ..task import Layout, Metric, Task, Values

SPLITS = ("train", "dev-clean", "dev-other", "test-clean", "test-other")


def _place(root: Path) -> Values:
    tables = root / "len_for_bucket"
    bucket_file = str(tables) if tables.is_dir() else None
    return {"datarc": {"libri_root": str(root), "bucket_file": bucket_file}}


def _prepare(section: Values, folder: Path) -> None:
    data = section["datarc"]
    root = Path(data["libri_root"])
    folders = [name for split in SPLITS for name in data.get(split) or ()]
    folders = [name for name in folders if (root / name).is_dir()]
    for _ in transcripts(root, folders):
        pass  # raises where one is missing
    if not data.get("bucket_file"):
        data["bucket_file"] = str(folder / "len_for_bucket")
        _write_length_tables(root, folder / "len_for_bucket", folders)


def _write_length_tables(root: Path, folder: Path, splits: Sequence[str]) -> None:
    """Write the lengths of recordings that s3prl's expert sorts by, the longest first."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        try:
            sized = [
                (soundfile.info(str(path)).frames, path.relative_to(root).as_posix())
                for path in find_flac(root / split)
            ]
        except soundfile.LibsndfileError as error:
            raise CorpusError(f"a recording of '{root / split}' cannot be read: {error}") from error
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["", "file_path", "length", "label"])
            rows = sorted(sized, key=lambda entry: -entry[0])
            writer.writerows([n, path, length, ""] for n, (length, path) in enumerate(rows))


TASK = Task(
    name="asr",
    short="asr",
    title="speech recognition",
    metrics=(
        Metric(key="wer", label="ASR WER", column="ASR", higher_is_better=False, to_percent=1.0),
    ),
    dev="dev-clean",
    test="test-clean",
    layout=Layout(
        title="LibriSpeech",
        fetch="openslr.org/12",
        text="{train-clean-100,dev-clean,test-clean}/<speaker>/<chapter>/*.flac and *.trans.txt",
        needed=("train-clean-100", "dev-clean", "test-clean"),
        place=_place,
        key="datarc.libri_root",
        published=LIBRISPEECH,
    ),
    prepare=_prepare,
)
