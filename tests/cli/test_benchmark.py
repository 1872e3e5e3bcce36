"""`run_benchmark.py retrieval` on a small corpus, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.shared.benchmark import benchmark_titles, load_benchmark
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora import CORPORA, flickr8k
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.modules.recall import chance_recall
from s3prl_speechclip.results import read_result


def test_retrieval_writes_a_result_that_can_be_repeated(tmp_path: Path) -> None:
    """Guards the result JSON: every embedding, chance, hash, its path as the last line, and that
    `evaluate` returns the same record."""
    corpus = write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=6)
    small_model("speechclip_hybrid").save_pretrained(tmp_path / "model")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "s3prl_speechclip.cli.benchmark",
            "retrieval",
            "-u",
            "speechclip_hybrid",
            "-k",
            str(tmp_path / "model"),
            "--data",
            "flickr8k",
            "--data-root",
            str(corpus),
            "--out",
            str(tmp_path / "result.json"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "result.json")
    result = read_result(tmp_path / "result.json")
    found = result.metrics["test"]
    assert found["recordings"] == 6 * CAPTIONS
    assert {"parallel", "cascaded", "sum"} <= found.keys()
    assert len(result.checkpoint_hash) == 64
    ids = [image for image in range(6) for _ in range(CAPTIONS)]
    chance = chance_recall(ids, list(range(6)))
    assert found["chance"]["speech_to_image"]["recall@1"] == round(chance["speech_to_image"][1], 4)
    assert found["parallel"]["speech_to_image"]["recall@10"] == 100.0

    same = evaluate(tmp_path / "model", "retrieval", corpus="flickr8k", root=corpus)
    assert {**asdict(same), "wall_time": result.wall_time} == asdict(result)
    dev = evaluate(tmp_path / "model", "retrieval", corpus="flickr8k", root=corpus, split="dev")
    assert list(dev.metrics) == ["dev"]


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """Guards against a traceback where `-k` names nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "s3prl_speechclip.cli.benchmark", "retrieval", "-k", "nowhere"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2
    assert "no checkpoint 'nowhere'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_every_benchmark_is_a_file_of_the_folder(root: Path) -> None:
    """Guards the one place to add a benchmark: its file gives the command and its line of help."""
    files = {path.stem for path in (root / "benchmarks").glob("*.py")} - {"__init__"}
    titles = benchmark_titles()
    assert titles.keys() == files | {"leaderboard"}  # which is a folder
    for name, title in titles.items():
        assert title and not title.endswith(".")
        assert load_benchmark(name).run


def test_unknown_benchmarks_and_options_are_named() -> None:
    """Guards `evaluate` against an option that is silently ignored."""
    with pytest.raises(ConfigError, match="did you mean 'retrieval'"):
        evaluate("speechclip_plus", "retrieve")
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        evaluate("speechclip_plus", "retrieval", batchsize=4)
    with pytest.raises(ConfigError, match="measures no model"):
        evaluate("speechclip_plus", "leaderboard", results=[])


def test_another_checkpoint_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards `-k seed0` and then `-k seed1` against one file for both, and what is replaced."""
    corpus = write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=2)
    monkeypatch.chdir(tmp_path)
    files = []
    for seed in (0, 1, 1):
        model = small_model("speechclip_parallel")
        torch.nn.init.constant_(model.branch.cls, seed)
        model.save_pretrained(tmp_path / f"seed{seed}")
        options = ["--data", "flickr8k", "--data-root", str(corpus)]
        assert main(["retrieval", "-k", f"seed{seed}", *options]) == 0
        captured = capfd.readouterr()
        files.append(captured.out.splitlines()[-1])
        assert ("is measured again and replaced" in captured.err) == (len(files) == 3)
    assert files[0] != files[1] == files[2]
    assert all(Path(file).is_file() for file in files)


def test_another_measurement_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards segmentations, transcripts and folders of one name against one file for all."""
    for folder in ("one/mine", "two/mine"):
        corpus = write_flickr8k(tmp_path / folder, train=1, dev=1, test=2)
        flickr8k.read(corpus).save(corpus / "manifest.jsonl")
        tested = flickr8k.read(corpus).split("test")
        text = "".join(f"{u.utterance_id} {u.text}\n" for u in tested)
        (corpus.parent / "text").write_text(text, encoding="utf-8")  # Kaldi's name
    monkeypatch.chdir(tmp_path)
    small_model("speechclip_words").save_pretrained(tmp_path / "model")
    files = set()
    for options in (
        ["--data", "one/mine"],
        ["--data", "two/mine"],
        ["--data", "one/mine", "--segmenter", "windows"],
        ["--data", "one/mine", "--transcripts", "one/text"],
        ["--data", "one/mine", "--transcripts", "two/text"],
        ["--data", "own", "--data-root", "one/mine"],
        ["--data", "own", "--data-root", "two/mine"],
    ):
        assert main(["retrieval", "-k", "model", *options]) == 0
        files.add(capfd.readouterr().out.splitlines()[-1])
    assert len(files) == 7


def images(**splits: int) -> Manifest:
    utterances = tuple(
        Utterance(
            utterance_id=f"{split}{n}",
            audio="",
            image=f"{split}{n}",
            pair_id=n,
            text="",
            split=split,
        )
        for split, count in splits.items()
        for n in range(count)
    )
    return Manifest(corpus="flickr8k", root=Path(), utterances=utterances)


@pytest.mark.parametrize(
    ("splits", "name"),
    [
        ({"train": 6000, "dev": 1000, "test": 1000}, "flickr8k"),
        ({"train": 5990, "dev": 1000, "test": 999}, "flickr8k"),
        ({"train": 6000, "dev": 1000, "test": 1001}, "own (Flickr8k layout)"),
        ({"train": 1, "dev": 1, "test": 1}, "own (Flickr8k layout)"),
    ],
)
def test_a_published_name_needs_published_sizes(splits: dict[str, int], name: str) -> None:
    """Guards published tables against anybody's recordings in Flickr8k's layout."""
    assert CORPORA["flickr8k"].public_name(images(**splits)) == name
