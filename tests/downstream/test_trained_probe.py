"""A trained probe from Python: as the runner's evaluation, without the corpus."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from downstream_runs import ask
from small_models import small_model

import s3prl_speechclip
from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.downstream.run_state import RunFolder, read_state
from s3prl_speechclip.errors import AudioError, CheckpointError, ConfigError

Write = Callable[[str], Path]
WRITTEN = {
    "fluent_commands": ("test_predict.csv", ",", "wavs/speakers/test/*.wav"),
    "speech_commands": ("test_predict.txt", " ", "speech_commands_test_set_v0.01/*/*.wav"),
    "libriphone": ("test-hyp.ark", " ", "test-clean/*/*/*.flac"),
    "snips": ("test-hyp.ark", " ", "test/*.wav"),
    "voxceleb1": ("test_predict.txt", " ", "dev/wav/*/*/*.wav"),
    "emotion": ("test_fold1_predict.txt", " ", "Session1/sentences/wav/*/*.wav"),
}
"""File of s3prl's predictions, what separates name and prediction, and the recordings."""


@pytest.mark.parametrize("task", WRITTEN)
def test_predictions_are_those_of_evaluation(task, write_corpus: Write, tmp_path: Path):
    """Guards names, their order, the level of KS and decoding: every prediction that -m evaluate
    writes comes again from the recording alone, once the corpus is gone."""
    root, folder = write_corpus(task), tmp_path / "run"
    run(ask(task, root, folder, steps=30, changes="optimizer.lr=1e-2"))
    run(Request(past=folder, evaluate=True, device="cpu"))
    name, separator, pattern = WRITTEN[task]
    rows = (line.partition(separator) for line in (folder / name).read_text().splitlines())
    expected = sorted((recording, decoded) for recording, _, decoded in rows)
    names = {recording for recording, _ in expected}
    paths = [path for path in root.glob(pattern) if name_of(task, path) in names]
    copies = {shutil.copy(p, tmp_path / f"{k}{p.suffix}"): p for k, p in enumerate(paths)}
    shutil.rmtree(root)
    probe = s3prl_speechclip.load_probe(folder, device="cpu")
    found = sorted((name_of(task, p), probe(copy).decoded) for copy, p in copies.items())
    assert expected and found == expected


def name_of(task: str, path: Path) -> str:
    """Return s3prl's name of a recording."""
    if task == "speech_commands":
        return "-".join(path.parts[-2:])
    return Path("-".join(path.parts[-3:])).stem if task == "voxceleb1" else path.stem


@pytest.mark.parametrize("trainable", [False, True])
def test_a_finetuned_upstream_comes_from_the_checkpoint(
    trainable, write_corpus: Write, tmp_path: Path
):
    """Guards a fine-tuned upstream against its weights before training, and plain samples against
    the file's."""
    small_model("speechclip_parallel").save_pretrained(tmp_path / "model")
    root, folder = write_corpus("speech_commands"), tmp_path / "run"
    request = ask("speech_commands", root, folder, steps=20, changes="optimizer.lr=1e-3")
    request = replace(
        request,
        upstream="speechclip_parallel",
        checkpoint=str(tmp_path / "model"),
        trainable=trainable,
    )
    run(request)
    run(Request(past=folder, evaluate=True, device="cpu"))
    lines = (folder / "test_predict.txt").read_text().splitlines()
    probe = s3prl_speechclip.load_probe(folder, device="cpu")
    paths = {path.stem: path for path in root.glob("speech_commands_test_set_v0.01/*/*.wav")}
    assert len(probe.labels["label"]) == 12
    for path in paths.values():
        samples = read_audio(path)
        assert probe(path) == probe(samples) == probe(torch.from_numpy(samples))
    with pytest.raises(AudioError, match="1-D float"):
        probe(torch.zeros(8000, dtype=torch.int16))
    written = [line.partition(" ")[2] for line in lines]
    found = [probe(path).label for path in sorted(root.glob("speech_commands_test_set*/*/*.wav"))]
    assert sorted(found) == sorted(written)


def test_a_checkpoint_without_names_and_a_task_without_a_head_are_refused(
    write_corpus: Write, tmp_path: Path
):
    folder = tmp_path / "run"
    run(ask("emotion", write_corpus("emotion"), folder))
    best = RunFolder(folder).best()
    assert best is not None
    state = read_state(best)
    del state.arguments["about"]["labels"]
    RunFolder(folder).save(state, best=True)
    with pytest.raises(CheckpointError, match="kept the names of labels"):
        s3prl_speechclip.load_probe(folder, device="cpu")
    folder = tmp_path / "asr"
    run(ask("asr", write_corpus("asr"), folder))
    with pytest.raises(ConfigError, match="asr predicts nothing for a recording alone"):
        s3prl_speechclip.load_probe(folder, device="cpu")


def test_a_class_of_ones_own_is_an_upstream(
    write_corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards the documentation's script: it runs as it stands, and its probe is loaded again."""
    import s3prl.hub

    page = (Path(__file__).parents[2] / "docs" / "superb.md").read_text(encoding="utf-8")
    source = page.split("`probe_mine.py`:\n\n```python\n")[1].split("```")[0]
    script = tmp_path / "probe_mine.py"
    script.write_text(source, encoding="utf-8")
    options = "runner.total_steps=2,,runner.eval_step=2,,downstream_expert.datarc.batch_size=4"
    command = [
        *(sys.executable, str(script), "-u", "loudness", "-d", "ks", "--device", "cpu"),
        *("--data-root", str(write_corpus("speech_commands")), "-p", str(tmp_path / "run")),
        *("-o", options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(s3prl.hub, "loudness", None, raising=False)  # is removed afterwards
    runpy.run_path(str(script))
    probe = s3prl_speechclip.load_probe(tmp_path / "run", device="cpu")
    assert probe(torch.randn(8000)).label in probe.labels["label"]
