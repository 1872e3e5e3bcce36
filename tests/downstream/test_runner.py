"""Whole runs of s3prl's own experts on few-file corpora."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from downstream_runs import BASELINE, SMALL, ask
from small_models import small_model

from s3prl_speechclip.benchmarks.leaderboard.superb import superb_figures
from s3prl_speechclip.downstream.plan import resolve
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import Experiment, run
from s3prl_speechclip.downstream.run_state import RunFolder, read_state
from s3prl_speechclip.downstream.training import Training
from s3prl_speechclip.downstream.upstreams import load_upstream
from s3prl_speechclip.errors import CheckpointError, ConfigError, CorpusError
from s3prl_speechclip.runtime.devices import build_fabric

Write = Callable[[str], Path]
METRIC = {
    "fluent_commands": "acc",
    "speech_commands": "acc",
    "libriphone": "per",
    "snips": "slot_type_f1",
    "voxceleb1": "acc",
    "emotion": "acc",
    "asr": "wer",
}


def weights(folder: Path) -> dict[str, Any]:
    path = RunFolder(folder).last()
    assert path is not None
    parts = read_state(path).parts
    return {f"{part}.{name}": value for part in parts for name, value in parts[part].items()}


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("task", SMALL)
def test_a_task_trains_and_is_tested(task, write_corpus: Write, tmp_path: Path):
    """Guards every step from the corpus' own layout to the figures, with s3prl's expert in it."""
    outcome = run(ask(task, write_corpus(task), tmp_path / "run"))
    result = outcome.result
    assert result is not None and result.task == task and not result.mini
    tests = [split for split in result.metrics if split.startswith("test")]
    assert len(tests) == 1
    assert METRIC[task] in result.metrics[tests[0]]
    assert {"dev", "dev-clean"} & result.metrics.keys()
    assert RunFolder(tmp_path / "run").best() is not None


def test_going_on_equals_never_having_stopped(write_corpus: Write, tmp_path: Path):
    """Guards the place in the epoch, the optimiser, and what random numbers come next: SF has
    dropout and masks, and 5 steps of 2 of 4 buckets end within an epoch."""
    root = write_corpus("snips")
    run(ask("snips", root, tmp_path / "whole", steps=8))
    run(ask("snips", root, tmp_path / "parts", steps=3))
    torch.manual_seed(99)  # another process has other random numbers
    again = ask("snips", root, tmp_path / "parts", steps=8)
    run(replace(again, auto_resume=True))
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_sampled_classes_and_crops_resume_too(write_corpus: Write, tmp_path: Path):
    """Guards the weighted draws of KS and its random crops of noise, within an epoch."""
    root = write_corpus("speech_commands")
    run(ask("speech_commands", root, tmp_path / "whole", steps=5))
    run(ask("speech_commands", root, tmp_path / "parts", steps=2))
    run(replace(ask("speech_commands", root, tmp_path / "parts", steps=5), auto_resume=True))
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_kept_features_train_as_computed_ones_do(write_corpus: Write, tmp_path: Path):
    """Guards the cache against mixing up recordings; the baseline's features hang on no batch."""
    root = write_corpus("fluent_commands")
    plain = run(ask("fluent_commands", root, tmp_path / "plain", changes="runner.cache=off"))
    kept = run(ask("fluent_commands", root, tmp_path / "kept", changes="runner.cache=frames"))
    assert plain.result is not None and kept.result is not None
    one, other = weights(tmp_path / "plain"), weights(tmp_path / "kept")
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-4)
    assert plain.result.metrics["test"]["acc"] == kept.result.metrics["test"]["acc"]


def test_something_is_learned(write_corpus: Write, tmp_path: Path):
    """Guards against gradients that never reach the probe."""
    root = write_corpus("fluent_commands")
    changes = "optimizer.lr=0.01,,runner.eval_step=15"
    outcome = run(ask("fluent_commands", root, tmp_path / "run", steps=30, changes=changes))
    assert outcome.result is not None
    assert outcome.result.metrics["test"]["acc"] > 0.8  # chance: 0.25


def test_evaluation_leaves_random_numbers_alone(write_corpus: Write, tmp_path: Path):
    """Guards training against an evaluation that reseeds it, as s3prl's does."""
    request = ask("speech_commands", write_corpus("speech_commands"), tmp_path / "run")
    plan = resolve(request)
    plan.folder.mkdir()
    fabric = build_fabric("cpu", "fp32")
    upstream = load_upstream(BASELINE, None, None, fabric.device)
    training = Training(fabric, [plan], upstream)
    (trial,) = training.trials
    training.prepare("dev")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, _ = training.evaluate(trial, "dev")
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()
    torch.rand(3)
    assert training.evaluate(trial, "dev")[0] == first  # and it draws the same every time
    trial.close()


def test_a_model_of_the_family_is_an_upstream(write_corpus: Write, tmp_path: Path):
    """Guards -k, the hash in the result, and the hidden states of the branch."""
    small_model("speechclip_hybrid").save_pretrained(tmp_path / "model")
    request = ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run")
    outcome = run(
        replace(request, upstream="speechclip_hybrid", checkpoint=str(tmp_path / "model"))
    )
    assert outcome.result is not None
    assert outcome.result.system == "speechclip_hybrid"
    assert len(outcome.result.checkpoint_hash) == 64
    assert outcome.result.protocol["batch_invariant"] is True
    path = RunFolder(tmp_path / "run").last()
    assert path is not None
    assert len(read_state(path).parts["Featurizer"]["weights"]) == 4  # 3 of the encoder, 1 more


def test_fine_tuning_changes_the_upstream_and_resumes(write_corpus: Write, tmp_path: Path):
    """Guards -f: the upstream learns, is in the checkpoint, and is what the test is made with."""
    small_model("speechclip_parallel").save_pretrained(tmp_path / "model")
    request = replace(
        ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run", steps=2),
        upstream="speechclip_encoder",
        checkpoint=str(tmp_path / "model"),
        trainable=True,
    )
    run(request)
    path = RunFolder(tmp_path / "run").last()
    assert path is not None
    learned = read_state(path).parts["Upstream"]
    started = load_upstream(
        "speechclip_encoder", str(tmp_path / "model"), None, torch.device("cpu")
    ).module.state_dict()
    assert any(not torch.equal(learned[name], value) for name, value in started.items())


def test_a_sweep_tests_the_rate_that_is_best_on_dev(write_corpus: Write, tmp_path: Path):
    """Guards the choice, and the test split against being looked at more than once."""
    request = ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run", steps=6)
    outcome = run(replace(request, sweep=(1e-2, 1e-7)))
    assert outcome.result is not None
    by_rate = outcome.result.protocol["dev_by_learning_rate"]
    assert outcome.result.protocol["learning_rate"] == float(max(by_rate, key=by_rate.get))
    assert outcome.result.metrics["dev"]["acc"] == max(by_rate.values())
    tested = list((tmp_path / "run").glob("*/test_predict.csv"))
    assert len(tested) == 1


def qbe(root: Path, folder: Path, **changes: Any) -> Experiment:
    request = Request(
        task="qbe",
        upstream="speechclip_encoder",
        data_root=str(root),
        folder=folder,
        override="runner.num_workers=0",
        device="cpu",
    )
    return run(replace(request, **changes))


def test_query_by_example_chooses_its_layer_on_dev(write_corpus: Write, tmp_path: Path):
    """Guards the choice, and the test against another layer than the chosen one."""
    small_model("speechclip_parallel").save_pretrained(tmp_path / "model")
    root = write_corpus("quesst14_dtw")
    model = str(tmp_path / "model")
    outcome = qbe(root, tmp_path / "run", checkpoint=model)
    assert outcome.result is not None
    by_layer = outcome.result.protocol["dev_maxTWV_by_layer"]
    best = outcome.result.protocol["layer"]
    assert len(by_layer) == 3 and by_layer[str(best)] == max(by_layer.values())
    alone = qbe(root, tmp_path / "alone", checkpoint=model, layer=best)
    assert alone.result is not None
    assert alone.result.metrics == outcome.result.metrics
    assert len(list((tmp_path / "run").glob("test-*"))) == 1


def test_query_by_example_on_dev_alone(write_corpus: Write, tmp_path: Path):
    """Guards `-t dev` against looking at the test queries."""
    root = write_corpus("quesst14_dtw")
    changes = {"upstream": BASELINE, "evaluate": True, "splits": ("dev",)}
    outcome = qbe(root, tmp_path / "run", **changes)
    assert outcome.result is not None and outcome.result.metrics.keys() == {"dev"}
    assert not list((tmp_path / "run").glob("test-*"))


def test_query_by_example_finds_what_sounds_alike(write_corpus: Write, tmp_path: Path):
    """Guards the features, the alignment and the scores, end to end: chords are told apart."""
    # Tones that do not change are alike everywhere once each frame's distances span [0, 1].
    plain = "downstream_expert.dtwrc.minmax_norm=false"
    outcome = qbe(write_corpus("quesst14_dtw"), tmp_path / "run", upstream=BASELINE, override=plain)
    assert outcome.result is not None
    assert outcome.result.metrics["test"]["maxTWV"] > 0.9
    assert outcome.result.metrics["test"]["minCnxe_own"] < 0.5


def test_the_official_scorer_counts_where_it_is(write_corpus: Write, tmp_path: Path):
    """Guards the call and the reading of the scorer's output, in the tool's own form."""
    root = write_corpus("quesst14_dtw")
    script = root / "quesst14Database" / "scoring" / "score-TWV-Cnxe.sh"
    script.write_text(
        '#!/bin/bash -e\nls "$1"/*.stdlist.xml "$2"/*.rttm >/dev/null\ntest "$3" = -10\n'
        'echo "actTWV: 0.1  maxTWV: 0.2345  Threshold: 2.5"\n',
        encoding="utf-8",
    )
    outcome = qbe(root, tmp_path / "run", upstream=BASELINE)
    assert outcome.result is not None
    found = outcome.result.metrics["test"]
    assert found["maxTWV"] == found["maxTWV_official"] == 0.2345
    assert found["maxTWV_own"] != 0.2345


def test_evaluating_again_gives_the_same(write_corpus: Write, tmp_path: Path):
    """Guards -m evaluate with -e: the best checkpoint's own configuration, nothing trained."""
    request = ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run")
    first = run(request).result
    again = run(Request(past=tmp_path / "run", evaluate=True, device="cpu")).result
    assert first is not None and again is not None
    assert again.metrics == first.metrics


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"selection": "hidden_state"}, ConfigError, "did you mean 'hidden_states'"),
        ({"layer": 7}, ConfigError, "-l is from -1 to 0"),
        ({"upstream": "fbanc"}, ConfigError, "did you mean 'fbank'"),
        ({"upstream": "hubert_local"}, ConfigError, "give them with -k"),
        ({"task": "fluent_command"}, ConfigError, "did you mean 'fluent_commands'"),
        ({"override": "runner.total_step=3"}, ConfigError, "did you mean"),
        ({"override": "downstream_expert.datarc.batch=3"}, ConfigError, "unknown configuration"),
        ({"override": "optimizer.lr=fast"}, ConfigError, "must be a number"),
        ({"data_root": "/nowhere"}, CorpusError, "no folder '/nowhere'"),
        ({"past": Path("/nowhere")}, CheckpointError, "-e: no checkpoint"),
    ],
)
def test_what_cannot_be_is_said(changes, error, said, write_corpus: Write, tmp_path: Path):
    """Guards each option against being ignored or ending in a traceback."""
    request = ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run")
    with pytest.raises(error, match=said):
        run(replace(request, **changes))


def test_a_folder_with_a_run_is_not_overwritten(write_corpus: Write, tmp_path: Path):
    request = ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run", steps=1)
    run(request)
    with pytest.raises(ConfigError, match="already holds a run"):
        run(request)


def test_a_broken_recording_is_named(write_corpus: Write, tmp_path: Path):
    """Guards against a traceback of the data loader's."""
    root = write_corpus("fluent_commands")
    (root / "wavs" / "speakers" / "train" / "3.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(CorpusError, match="3.wav"):
        run(ask("fluent_commands", root, tmp_path / "run"))


def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    write_corpus: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Guards a resumed run against a checkpoint that a crash of the machine cut short."""
    root = write_corpus("fluent_commands")
    run(ask("fluent_commands", root, tmp_path / "whole", steps=6))
    run(ask("fluent_commands", root, tmp_path / "cut", steps=4, changes="runner.max_keep=2"))
    newest = tmp_path / "cut" / "states-4.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    run(replace(ask("fluent_commands", root, tmp_path / "cut", steps=6), auto_resume=True))
    assert any("states-4.ckpt" in message for message in caplog.messages)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_the_second_edition_of_speech_commands_is_read_as_another_corpus(
    write_corpus: Write, tmp_path: Path
) -> None:
    """Guards v0.02, which has other folder names, and SUPERB's figures, which are of v0.01."""
    root = write_corpus("speech_commands")
    for name in ("speech_commands", "speech_commands_test_set"):
        (root / f"{name}_v0.01").rename(root / f"{name}_v0.02")
    result = run(ask("speech_commands", root, tmp_path / "run", steps=1)).result
    assert result is not None and result.corpus == "speech_commands_v0.02"
    assert "acc" in result.metrics["test"]
    (figure,) = superb_figures(result)
    assert figure.corpus == "speech_commands_v0.02"
