"""Whole runs on a small corpus: what they write, resuming, interruption, several processes."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_corpus import SMALL, write_flickr8k
from small_runs import TORCHRUN, arguments, assert_same_weights, column, launch, losses, run, start

from s3prl_speechclip.encoders.speech import build_speech_encoder
from s3prl_speechclip.model.config import VARIANTS
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.pretrain.config import PRESETS, resolve_config


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flickr8k(tmp_path_factory.mktemp("flickr8k"))


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Overrides that make the speech encoder a frozen one, in half precision in a folder."""
    folder = tmp_path_factory.mktemp("hubert")
    config = resolve_config("speechclip_hybrid", "mini_scratch", SMALL).model.speech_encoder
    torch.manual_seed(0)
    build_speech_encoder(config, batch_invariant=True).model.half().save_pretrained(folder)
    changes = {"name": folder, "pretrained": True, "trainable": False, "architecture": "{}"}
    return ",,".join(f"model.speech_encoder.{name}={value}" for name, value in changes.items())


def test_the_default_preset_trains_on_a_corpus_with_any_words(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards a user's first run: captions hold words that the shipped CLIP does not know."""
    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    listing = other / "Flickr8k.token.txt"
    text = listing.read_text(encoding="utf-8").replace("picture", "zyzzyva")
    listing.write_text(text, encoding="utf-8")
    changes = "runner.total_steps=2,,data.batch_size=8"
    folder = str(tmp_path / "run")
    run("--data", "flickr8k", "--data-root", str(other), "-p", folder, "-o", changes)
    assert "are not among the mini CLIP's" in capfd.readouterr().err
    assert SpeechClip.from_pretrained(folder).about["step"] == 2


def test_a_run_without_validation_reads_no_dev_split(corpus: Path, tmp_path: Path) -> None:
    """Guards against recordings that are read for nothing, and a best checkpoint that is none."""
    broken = tmp_path / "broken"
    shutil.copytree(corpus, broken)
    first = (broken / "Flickr_8k.devImages.txt").read_text(encoding="utf-8").split()[0]
    (broken / "flickr_audio" / "wavs" / f"{Path(first).stem}_0.wav").write_text("no audio" * 20)
    assert start(*arguments(broken, tmp_path / "measured", 2)).returncode == 2
    run(*arguments(broken, tmp_path / "run", 4, overrides="runner.eval_step=0"))
    assert SpeechClip.from_pretrained(tmp_path / "run").about["step"] == 4
    assert "recall@10" not in (tmp_path / "run" / "log.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_model_learns_and_can_be_loaded(corpus: Path, tmp_path: Path, variant: str) -> None:
    """Guards against an architecture whose loss has no gradient, or whose files do not load."""
    folder = tmp_path / variant
    run(
        *arguments(
            corpus,
            folder,
            40,
            "-u",
            variant,
            overrides="optimizer.lr=3e-3,,scheduler.warmup_steps=5",
        )
    )
    found = losses(folder)
    assert sum(found[-5:]) < 0.9 * sum(found[:5])
    model = SpeechClip.from_pretrained(folder)
    assert model.config.variant == variant
    assert model.about["corpus"] == "flickr8k"


def test_an_experiment_folder_holds_what_is_promised(corpus: Path, tmp_path: Path) -> None:
    """Guards the files that users and later commands look for."""
    done = start(*arguments(corpus, tmp_path / "run", 4, "-u", "speechclip_hybrid_plus"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "run")
    for name in (
        "config.yaml",
        "log.csv",
        "curves.png",
        "last/model.safetensors",
        "last/config.json",
        "best/model.safetensors",
        "best/config.json",
    ):
        assert (tmp_path / "run" / name).is_file(), name
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 500
    header = (tmp_path / "run" / "log.csv").read_text().splitlines()[0].split(",")
    for name in (
        "step",
        "loss",
        "loss/parallel",
        "loss/cascaded",
        "loss/quantity",
        "lr",
        "examples_per_second",
        "recall@10",
    ):
        assert name in header


def test_a_resumed_run_on_cached_features_ends_with_the_weights_of_an_uninterrupted_one(
    corpus: Path, tmp_path: Path, frozen: str
) -> None:
    """Guards the crops of cached features after a kill; recordings are test_resume.py's."""
    small = "runner.save_step=3,,runner.eval_step=3,,runner.max_keep=9"
    small += f",,{frozen},,data.cache_features=on,,data.max_samples=4000"
    run(*arguments(corpus, tmp_path / "whole", 7, overrides=small))
    # The same run, cut off after its third step: what a kill leaves behind.
    run(*arguments(corpus, tmp_path / "cut", 7, overrides=small))
    for step in (6, 7):
        shutil.rmtree(tmp_path / "cut" / f"step-{step:08d}")
    run(*arguments(corpus, tmp_path / "cut", 7, "-a", overrides=small))
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_sigterm_leaves_a_checkpoint_and_says_how_to_resume(corpus: Path, tmp_path: Path) -> None:
    """Guards a cluster job that is asked to leave: exit status 0, nothing lost."""
    folder = tmp_path / "run"
    process = launch(*arguments(corpus, folder, 100_000))
    deadline = time.monotonic() + 240
    while not (folder / "log.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "resume with" in err
    assert out.splitlines()[-1] == str(folder)
    assert (folder / "last" / "trainer.pt").is_file()


def test_a_run_is_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    """Guards hours of training against a command repeated without thought."""
    from s3prl_speechclip.cli.pretrain import main

    argv = arguments(corpus, tmp_path / "run", 2)
    assert main(argv) == 0
    before = (tmp_path / "run" / "last" / "model.safetensors").read_bytes()
    assert main(argv) == 2
    assert (tmp_path / "run" / "last" / "model.safetensors").read_bytes() == before


def test_a_past_experiment_is_resumed(corpus: Path, tmp_path: Path) -> None:
    """Guards `-e`: the past run's configuration counts, more steps are taken in its folder."""
    run(*arguments(corpus, tmp_path / "run", 3, "-u", "speechclip_plus"))
    run("-e", str(tmp_path / "run"), "-o", "runner.total_steps=5")
    with (tmp_path / "run" / "log.csv").open(encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]


def test_old_checkpoints_are_dropped_and_the_best_is_kept(corpus: Path, tmp_path: Path) -> None:
    """Guards against a disk that fills up, and against losing the best."""
    run(*arguments(corpus, tmp_path / "run", 8, overrides="runner.save_step=1,,runner.eval_step=4"))
    kept = sorted(path.name for path in (tmp_path / "run").glob("step-*"))
    best = (tmp_path / "run" / "best").resolve().name
    assert set(kept) == {"step-00000008", best}


def test_cached_features_train_as_recordings_do(corpus: Path, tmp_path: Path, frozen: str) -> None:
    """Guards the feature cache: the same losses and validation recall as encoding at every step.

    float16 rounds hidden states by up to 2^-11 of their values, which a few steps carry on.
    """
    for choice in ("on", "off"):
        overrides = f"{frozen},,data.cache_features={choice},,optimizer.lr=1e-3"
        run(
            *arguments(
                corpus, tmp_path / choice, 4, "-u", "speechclip_hybrid_plus", overrides=overrides
            )
        )
    assert losses(tmp_path / "on") != losses(tmp_path / "off")
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), rel=5e-3)
    one, other = (
        SpeechClip.from_pretrained(tmp_path / choice).state_dict() for choice in ("on", "off")
    )
    assert all(torch.equal(v, other[k]) for k, v in one.items() if k.startswith("speech_encoder."))


@pytest.mark.parametrize(
    ("variant", "encoder", "steps", "tolerance"),
    [
        ("speechclip_parallel", "frozen", 20, 1e-5),
        ("speechclip_hybrid_plus", "cached", 20, 1e-5),
        # Rounding grows from step to step in an encoder that is trained from random weights.
        ("speechclip_hybrid_plus", "trained", 3, 1e-4),
    ],
)
def test_two_processes_train_as_one_does(
    corpus: Path,
    tmp_path: Path,
    frozen: str,
    variant: str,
    encoder: str,
    steps: int,
    tolerance: float,
) -> None:
    """Guards the gathered objective: contrasts over all processes' rows, gradients averaged.

    Dropout is off since each process draws its own. Sums are taken in another order, and Adam would
    blow rounding up where the true gradient is zero (keys' biases), hence its large epsilon.
    """
    still = ",,".join(
        f"model.{name}=0.0"
        for name in (
            "attention.dropout",
            "keywords.projection_dropout",
            "cif.dropout",
            "speech_encoder.architecture.hidden_dropout",
            "speech_encoder.architecture.attention_dropout",
        )
    )
    still += ",,optimizer.lr=1e-4,,optimizer.eps=1e-3"
    if encoder != "trained":
        choice = "on" if encoder == "cached" else "off"
        still += f",,{frozen},,data.cache_features={choice}"
    argv = ("-u", variant, "--device", "cpu")
    run(*arguments(corpus, tmp_path / "one", steps, *argv, overrides=still))
    two = start(
        *arguments(corpus, tmp_path / "two", steps, *argv, overrides=still), launcher=TORCHRUN
    )
    assert two.returncode == 0, two.stderr
    alone = load_file(tmp_path / "one" / "last" / "model.safetensors")
    shared = load_file(tmp_path / "two" / "last" / "model.safetensors")
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=tolerance, rtol=tolerance, msg=name)
    assert column(tmp_path / "one", "recall@10") == column(tmp_path / "two", "recall@10")


def test_captions_of_one_image_meet_in_different_processes(corpus: Path) -> None:
    """Guards the test above: without such batches it would say nothing of masked negatives."""
    from s3prl_speechclip.data.corpora import load_corpus
    from s3prl_speechclip.data.sampling import BucketBatchSampler

    utterances = load_corpus("flickr8k", root=corpus).split("train")
    shares = (BucketBatchSampler([1] * len(utterances), 8, 0, rank, 2) for rank in (0, 1))
    images = [
        [{utterances[index].image for index in batch} for batch in share.batches(0)]
        for share in shares
    ]
    assert any(one & other for one, other in zip(*images, strict=True))


def test_a_broken_image_is_named_or_left_out(tmp_path: Path) -> None:
    """Guards `--skip-broken`: without it an error names the file, with it the count is said."""
    from s3prl_speechclip.cli.pretrain import main

    corpus = write_flickr8k(tmp_path / "corpus", train=10)
    broken = next((corpus / "Images").glob("*_train.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = start(*arguments(corpus, tmp_path / "run", 2))
    assert done.returncode == 2
    assert broken.name in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert main(arguments(corpus, tmp_path / "run", 2, "--skip-broken")) == 0


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(corpus: Path, tmp_path: Path) -> None:
    """Guards the last good checkpoint; the limit on a file's size comes after it was written."""
    folder, often = tmp_path / "run", "runner.save_step=1,,runner.max_keep=1"
    program = (
        "import os, resource, signal, sys\n"
        "from s3prl_speechclip.runtime import run_folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "replace = os.replace\n"
        "def fill(*paths):\n"
        "    replace(*paths)\n"
        "    if str(paths[1]).endswith('step-00000002'):\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "run_folder.os.replace = fill\n"
        "from s3prl_speechclip.cli.pretrain import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(corpus, folder, 6, overrides=often)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: cannot write the checkpoint")
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.glob("step-*")] == ["step-00000002"]
    run(*arguments(corpus, tmp_path / "whole", 6, overrides=often))
    run(*arguments(corpus, folder, 6, "-a", overrides=often))
    assert_same_weights(tmp_path / "whole", folder)


def test_an_official_checkpoint_is_trained_on(corpus: Path, goldens: Path, tmp_path: Path) -> None:
    """Guards `-e official.ckpt`: model and size are the file's, the encoders stay as they are."""
    official = goldens / "hybrid_plus" / "official.ckpt"
    run(
        "-e",
        str(official),
        "--data",
        "flickr8k",
        "--data-root",
        str(corpus),
        "-p",
        str(tmp_path / "run"),
        "-o",
        "runner.total_steps=2,,runner.eval_step=2,,"
        "data.batch_size=8,,data.num_workers=0,,runner.precision=fp32",
    )
    before = SpeechClip.from_pretrained(official).state_dict()
    trained = SpeechClip.from_pretrained(tmp_path / "run")
    assert trained.config.variant == "speechclip_hybrid_plus"
    after = trained.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("branch.") for name in changed)
    assert not any(name.startswith(("speech_encoder.", "clip.")) for name in changed)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dry_run_needs_neither_corpus_nor_hub(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the first look at a preset: the shipped encoders' own vocabulary and architecture."""
    run("-g", preset, "--dry-run")
    counts = capsys.readouterr().out.splitlines()[-1].split()
    assert counts[0] == "total"
    assert 0 < int(counts[2].replace(",", "")) <= int(counts[1].replace(",", ""))


def test_offline_the_missing_encoder_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the base preset where there is no hub: what is missing, and how to provide it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    run = str(tmp_path / "run")
    done = start("-g", "base", "--data", "flickr8k", "--data-root", str(corpus), "-p", run)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "facebook/hubert-base-ls960" in last
    assert "--hubert PATH" in last
    assert "Traceback" not in done.stderr
