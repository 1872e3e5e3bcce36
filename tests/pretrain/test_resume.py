"""Runs that are killed, copied or damaged, and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_corpus import write_flickr8k
from small_runs import TORCHRUN, arguments, assert_same_weights, column, launch, losses, run

from s3prl_speechclip.cli.pretrain import main
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.pretrain.config import change_config, read_config
from s3prl_speechclip.pretrain.resume import resumed_config

KILLS = int(os.environ.get("S3PRL_SPEECHCLIP_KILLS", "2"))  # moments; more in a long test

SAVING = "runner.save_step=3,,runner.max_keep=9"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flickr8k(tmp_path_factory.mktemp("flickr8k"))


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of six steps, with a checkpoint after the third."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(*arguments(corpus, folder, 6, overrides=SAVING))
    return folder


def cut_after_step_3(whole: Path, folder: Path) -> Path:
    """Copy the run as a kill after its third step would have left it."""
    shutil.copytree(whole, folder, symlinks=True)
    shutil.rmtree(folder / "step-00000006")
    for name in ("best", "last"):
        (folder / name).unlink()
    (folder / "last").symlink_to("step-00000003")
    return folder


@pytest.mark.parametrize("copied", ["links followed", "links lost", "links alone", "nothing lost"])
def test_a_copied_run_is_resumed_where_it_was(
    whole: Path, corpus: Path, tmp_path: Path, copied: str
) -> None:
    """Guards runs moved by `cp -rL`, `rsync -L`, or an object store that knows no links.

    They used to fail at the next checkpoint, or to start anew in silence over the old one.
    """
    cut = cut_after_step_3(whole, tmp_path / "cut")
    moved = tmp_path / "moved"
    shutil.copytree(cut, moved, symlinks=copied == "nothing lost")
    if copied == "links lost":
        shutil.rmtree(moved / "last")
    if copied == "links alone":
        shutil.rmtree(moved / "step-00000003")
    run(*arguments(corpus, moved, 6, "-a", overrides=SAVING))
    assert_same_weights(whole, moved)
    assert losses(moved) == losses(whole)
    assert os.readlink(moved / "last") == "step-00000006"
    assert os.readlink(moved / "best") == "step-00000006"
    assert (moved / "step-00000003" / "trainer.pt").is_file()


def test_what_a_run_began_with_stays(
    whole: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards `config.yaml` against an origin that the weights do not have, and `-a` against other
    settings in silence."""
    folder = cut_after_step_3(whole, tmp_path / "cut")
    before = (folder / "config.yaml").read_bytes()
    for how in (["-a"], ["-e", str(folder)]):
        assert main([*arguments(corpus, folder, 6, *how, "--seed", "7", overrides=SAVING)]) == 2
        assert "seed 0, found 7" in capfd.readouterr().err.splitlines()[-1]
    assert (folder / "config.yaml").read_bytes() == before
    changed = f"{SAVING},,optimizer.lr=0.5"
    run(*arguments(corpus, folder, 6, "-a", "-i", str(whole), overrides=changed))
    said = capfd.readouterr().err
    assert "other settings than before: optimizer.lr 0.002 -> 0.5" in said
    assert f"does not read '{whole}'" in said
    config = read_config(folder / "config.yaml")
    assert (config.seed, config.init) == (0, "")


def test_a_preset_beside_a_past_run_leaves_its_seed(corpus: Path, tmp_path: Path) -> None:
    """Guards `-g` with `-a`, which names no seed, against that of the preset."""
    folder = tmp_path / "run"
    run(*arguments(corpus, folder, 1, "--seed", "3"))
    run(*arguments(corpus, folder, 2, "-a"))
    config = read_config(folder / "config.yaml")
    assert (config.seed, len(losses(folder))) == (3, 2)


def test_an_architecture_may_have_keys_that_another_lacks(
    whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    past = read_config(whole / "config.yaml")
    key = "model.clip.architecture.vision_cfg.timm_drop"
    changed = change_config(past, f"{key}=0.1")
    assert resumed_config(whole, changed) == changed
    assert f"{key} None -> 0.1" in caplog.text


@pytest.mark.parametrize("file", ["model.safetensors", "trainer.pt", "config.json"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    whole: Path, corpus: Path, tmp_path: Path, file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a run that one damaged file ends, and a fallback in silence."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    path = folder / "step-00000006" / file
    os.truncate(path, path.stat().st_size // 2)
    run(*arguments(corpus, folder, 6, "-a", overrides=SAVING))
    assert "step-00000003', is used" in capfd.readouterr().err
    assert_same_weights(whole, folder)
    assert losses(folder) == losses(whole)
    assert (folder / "damaged-step-00000006").is_dir()


def test_where_every_checkpoint_is_damaged_nothing_is_started_over(
    whole: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards hours of training against a run that starts at step 1 in the same folder."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    for path in folder.glob("step-*/trainer.pt"):
        os.truncate(path, 10)
    before = (folder / "log.csv").read_bytes()
    assert main(arguments(corpus, folder, 6, "-a", overrides=SAVING)) == 2
    assert "no checkpoint in" in capfd.readouterr().err.splitlines()[-1]
    assert (folder / "log.csv").read_bytes() == before


def test_a_run_killed_inside_a_checkpoint_write_resumes(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Guards the checkpoint before against the one that was being written."""
    folder = tmp_path / "run"
    program = (
        "import os, sys, torch; save = torch.save; calls = []\n"
        "def stop(value, path):\n"
        "    save(value, path); calls.append(path)\n"
        "    if len(calls) == 2: os.truncate(path, 1000); os.kill(os.getpid(), 9)\n"
        "torch.save = stop\n"
        "from s3prl_speechclip.cli.pretrain import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(corpus, folder, 6, overrides=SAVING)],
        timeout=300,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert (folder / "step-00000006.partial" / "trainer.pt").stat().st_size == 1000
    run(*arguments(corpus, folder, 6, "-a", overrides=SAVING))
    assert_same_weights(whole, folder)
    assert losses(folder) == losses(whole)


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(
    corpus: Path, tmp_path: Path
) -> None:
    """Guards resuming against whatever a kill leaves behind, wherever it comes."""
    moments = random.Random(0)
    often = "runner.save_step=1"
    run(*arguments(corpus, tmp_path / "whole", 40, overrides=often))
    folder = tmp_path / "killed"
    for _ in range(KILLS):
        before = (folder / "log.csv").stat().st_mtime_ns if folder.exists() else 0
        process = launch(*arguments(corpus, folder, 40, "-a", overrides=often))
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if (folder / "log.csv").exists() and (folder / "log.csv").stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        process.kill()
        process.communicate()
    run(*arguments(corpus, folder, 40, "-a", overrides=often))
    assert_same_weights(tmp_path / "whole", folder)
    assert losses(folder) == losses(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_two_processes_end_together(corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Guards a cluster's hours against processes that wait for one that is gone or has stopped.

    Only the second process gets the signal; SIGTERM ends both with a checkpoint.
    """
    folder = tmp_path / "run"
    process = launch(*arguments(corpus, folder, 100_000), launcher=TORCHRUN)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "log.csv").is_file() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        workers = {environment_of(pid)["RANK"]: pid for pid in children(process.pid)}
        os.kill(workers["1"], number)
        _, err = process.communicate(timeout=60)
        assert (process.returncode == 0) == (number == signal.SIGTERM), err
        assert (folder / "last" / "trainer.pt").is_file() == (number == signal.SIGTERM)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers.values())
    finally:
        process.kill()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_a_loss_that_is_not_finite_stops_the_run(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards the last good checkpoint, and names the step and the recordings.

    A learning rate of 1e20 makes the second step's loss infinite or NaN.
    """
    folder = tmp_path / "run"
    overrides = "optimizer.lr=1e20,,scheduler.name=constant,,runner.save_step=1"
    assert main(arguments(corpus, folder, 6, overrides=overrides)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: step 2: the loss or its gradient is not finite")
    assert "last good checkpoint: " + str(folder / "step-00000001") in line
    (record,) = map(json.loads, (folder / "nonfinite.jsonl").read_text().splitlines())
    assert record["step"] == 2 and len(set(record["recordings"])) == 8
    assert record["recordings"][0] in line
    assert list(folder.glob("step-*")) == [folder / "step-00000001"]


def test_a_loss_that_is_not_finite_is_skipped_and_counted_on_demand(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards weights and batch-norm statistics against a batch whose loss is NaN."""
    compute, calls = SpeechClip.objective, []

    def objective(self, output, *rest):
        calls.append(output)
        terms = compute(self, output, *rest)
        return {k: v * float("nan") for k, v in terms.items()} if len(calls) == 2 else terms

    monkeypatch.setattr(SpeechClip, "objective", objective)
    folder = tmp_path / "run"
    run(
        *arguments(
            corpus,
            folder,
            4,
            "-u",
            "speechclip_cascaded",
            overrides="runner.nonfinite=skip,,runner.save_step=1,,runner.max_keep=9",
        )
    )
    assert column(folder, "skipped_steps") == [0, 1, 1, 1]
    first, second, last = (
        load_file(folder / f"step-0000000{step}" / "model.safetensors") for step in (1, 2, 4)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in last.values() if value.is_floating_point())
    assert any(not torch.equal(second[name], last[name]) for name in last)
    assert json.loads((folder / "nonfinite.jsonl").read_text())["step"] == 2


@pytest.mark.parametrize("variant", ["speechclip_words", "speechclip_cascaded"])
def test_formal_supervision_is_resumed_exactly(tmp_path: Path, variant: str) -> None:
    """Guards the critics' own state: weights, optimiser, the captions drawn, no second training."""
    corpus = write_flickr8k(tmp_path / "flickr8k", train=40)
    weights = "model.objective.perplexity_weight=0.1,,model.objective.adversarial_weight=0.1"
    weights += ",,model.clip.trainable=false"
    argv = ("-u", variant)
    whole = tmp_path / "whole"
    run(*arguments(corpus, whole, 6, *argv, overrides=f"{SAVING},,{weights}"))
    for name in ("loss/perplexity", "loss/adversarial", "discriminator"):
        assert len(set(column(whole, name))) == 6
    cut = cut_after_step_3(whole, tmp_path / "cut")
    run(*arguments(corpus, cut, 6, *argv, "-a", overrides=f"{SAVING},,{weights}"))
    assert_same_weights(whole, cut)
    assert losses(cut) == losses(whole)
    states = [
        torch.load(folder / "last" / "trainer.pt", weights_only=True)["formal"]
        for folder in (whole, cut)
    ]
    for part in ("language_model", "discriminator"):
        expected, found = (state[part] for state in states)
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
