"""Recordings of any rate and number of channels, in every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from downstream_runs import SMALL, ask

from s3prl_speechclip.downstream import compat
from s3prl_speechclip.downstream.batches import evaluation_batches
from s3prl_speechclip.downstream.plan import resolve
from s3prl_speechclip.downstream.probe import build_expert, data_loader
from s3prl_speechclip.downstream.run import run

Write = Callable[[str], Path]
TESTS = {"asr": "test-clean"}


def wavs(task: str, root: Path, folder: Path) -> list[np.ndarray]:
    """Read the recordings of a task's test split as its expert gets them."""
    compat.apply()
    plan = resolve(ask(task, root, folder))
    folder.mkdir()
    loader = data_loader(plan.task, build_expert(plan, 8, 320), TESTS.get(task, "test"))
    batches = evaluation_batches(loader, task, 0, 0)
    return [wav for batch in batches for wav in batch.wavs]


def rewrite(root: Path, rate: int) -> int:
    """Store every recording at another rate, with a second channel that adds nothing."""
    files = [path for path in root.rglob("*") if path.suffix in (".wav", ".flac")]
    for path in files:
        samples, found = soundfile.read(path)
        other = soxr.resample(samples, found, rate)
        stereo = np.stack([1.5 * other, 0.5 * other], axis=1)
        soundfile.write(path, stereo, rate, subtype="PCM_24")
    return len(files)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("task", SMALL)
def test_every_task_reads_16_khz_mono(task: str, rate: int, write_corpus: Write, tmp_path: Path):
    """Guards against features of another speed, or of both channels one after the other.

    5 %: at 8 kHz half of the noise is lost, of which the recordings have 5 % or less.
    """
    root = write_corpus(task)
    before = wavs(task, root, tmp_path / "before")
    rewrite(root, rate)
    after = wavs(task, root, tmp_path / "after")
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert abs(len(one) - len(other)) <= 1
        length = min(len(one), len(other))
        inner = slice(400, length - 400)  # resampling rings at the edges
        error = np.sqrt(np.mean((one[inner] - other[inner]) ** 2))
        assert error < 0.05 * np.sqrt(np.mean(one[inner] ** 2))


def test_conversions_are_in_the_result(write_corpus: Write, tmp_path: Path):
    """Guards against a corpus that is converted without a word, by worker processes too."""
    root = write_corpus("fluent_commands")
    key = "recordings_converted_to_16_khz_mono"
    plain = run(ask("fluent_commands", root, tmp_path / "plain")).result
    assert plain is not None and plain.protocol[key] == 0
    count = rewrite(root, 44_100)
    changes = "runner.total_steps=8,,runner.num_workers=2"  # two epochs of 16 recordings
    converted = run(ask("fluent_commands", root, tmp_path / "run", changes=changes)).result
    assert converted is not None and converted.protocol[key] == count
