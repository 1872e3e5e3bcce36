"""How fast a model is: measured on real recordings, without changing it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_corpus import write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks import speed
from s3prl_speechclip.benchmarks.peers.comparisons import MEASURES
from s3prl_speechclip.benchmarks.peers.runner import write_mini_hubert
from s3prl_speechclip.benchmarks.peers.scores import LINE, scores_table
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.downstream.upstreams import load_upstream
from s3prl_speechclip.encoders.shipped import ASSETS
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.results import read_result


def test_speed_is_of_the_batch_it_says(tmp_path: Path) -> None:
    """Guards rates against another count of recordings, and the model against being trained."""
    manifest = load_corpus("flickr8k", write_flickr8k(tmp_path / "corpus"))
    model = small_model("speechclip_hybrid_plus")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = evaluate(model, "speed", corpus=manifest, batch_size=6, repetitions=2)
    training, encoding = result.metrics["training"], result.metrics["encoding"]
    assert training["examples_per_second"] * training["seconds_per_step"] == pytest.approx(
        6, rel=1e-2
    )
    # The corpus' recordings last 0.3 to 0.6 s.
    assert 0.3 < encoding["times_real_time"] / encoding["recordings_per_second"] < 0.6
    assert result.protocol["batch_size"] == 6 and result.protocol["device"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="--repetitions must be at least 1"):
        evaluate(model, "speed", corpus=manifest, repetitions=0)


def test_comparisons_have_their_keys_and_both_sides(tmp_path: Path) -> None:
    """Guards the keys that tables are made from, against a part that is left out in silence, and
    alignments that are fast and others than dtw-python's."""
    out = tmp_path / "speed.json"
    assert main(["speed", "--only", "qbe_pair", "--repetitions", "1", "--out", str(out)]) == 0
    result = read_result(out)
    assert tuple(result.metrics) == tuple(speed.GOALS) == tuple(MEASURES)
    found = result.metrics["qbe_pair"]
    assert found["ratio"] == pytest.approx(found["theirs"] / found["ours"], rel=1e-2)
    assert found["difference"] < 1e-6 and found["goal"] == 20 and found["unit"]
    for key, other in result.metrics.items():
        if key != "qbe_pair":
            assert other["ours"] is other["ratio"] is None and "--only" in other["reason"]
    assert [figure.column for figure in speed.board_figures(result)] == ["qbe_pair"]


def test_the_mini_hubert_is_read_by_either_transformers(tmp_path: Path) -> None:
    """Guards s3prl's runner and this one against other weights than each other's."""
    written = write_mini_hubert(tmp_path / "written")
    shipped = shutil.copytree(ASSETS / "hubert", tmp_path / "shipped")
    shutil.copy(written / "preprocessor_config.json", shipped)
    weights = load_file(written / "model.safetensors")
    names = [name for name in weights if "pos_conv_embed" in name]
    assert {name.rpartition(".")[2] for name in names} == {"bias", "weight_g", "weight_v"}
    own, loaded = (
        load_upstream("hf_hubert_custom", str(folder), None, torch.device("cpu")).module
        for folder in (shipped, written)
    )
    sound = [torch.randn(8000, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        states = [upstream(sound)["hidden_states"] for upstream in (own, loaded)]
    for a, b in zip(*states, strict=True):
        torch.testing.assert_close(a, b)


def test_scores_of_both_runners_are_compared_over_seeds() -> None:
    """Guards the lines of s3prl's log that are read, and a difference's standard error."""
    log = "train at step 250: 0.9\ndev at step 250: 0.4\nNew best on dev at step 250: 0.4\n"
    assert LINE.findall(log + "test at step 250: 0.375\n") == [("dev", "0.4"), ("test", "0.375")]
    scores = {"s3prl": (0.50, 0.52, 0.54), "s3prl_speechclip": (0.57, 0.55, 0.53)}
    runs = [
        {"task": "fluent_commands", "runner": runner, "seed": seed, "test": test}
        for runner, tests in scores.items()
        for seed, test in enumerate(tests)
    ]
    runs.append({"task": "speech_commands", "runner": "s3prl", "seed": 0, "test": 0.5})
    _, _, *rows = scores_table(runs).splitlines()
    theirs, row = rows
    assert "fluent_commands" in theirs and "50.0, 52.0, 54.0" in theirs
    # Each mean is off by 2 / sqrt(3) points, their difference by sqrt(8 / 3).
    assert "+3.0 ± 1.6" in row and row.rstrip(" |").endswith("yes")
