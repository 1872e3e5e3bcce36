"""The tasks' configurations, and where their corpora are looked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s3prl_speechclip.downstream.config import (
    TASKS,
    find_task,
    override,
    read_task_config,
    runner_config,
)
from s3prl_speechclip.downstream.data import place_data
from s3prl_speechclip.downstream.layouts import CORPORA
from s3prl_speechclip.errors import ConfigError, CorpusError
from s3prl_speechclip.minis import SUPERB as MINI_SETS

SUPERB = {  # steps, batches accumulated, learning rate
    "fluent_commands": (200_000, 1, 1e-4),
    "snips": (200_000, 1, 1e-4),
    "libriphone": (100_000, 2, 1e-2),
    "speech_commands": (200_000, 1, 1e-4),
    "voxceleb1": (200_000, 4, 1e-4),
    "emotion": (30_000, 8, 1e-4),
    "asr": (200_000, 1, 1e-4),
}


@pytest.mark.parametrize("name", SUPERB)
def test_the_defaults_are_superbs(name):
    """Guards comparability against a changed YAML."""
    config = read_task_config(find_task(name), None)
    runner = runner_config(config)
    found = runner.total_steps, runner.gradient_accumulate_steps, config["optimizer"]["lr"]
    assert found == SUPERB[name]
    assert not set(runner.eval_dataloaders) & set(runner.test_dataloaders)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_has_what_a_run_needs(task):
    """Guards the table, the YAML and the layout of a task against missing one another."""
    config = read_task_config(task, None)
    runner_config(config)
    assert task.name in CORPORA
    assert (task.name in MINI_SETS) == CORPORA[task.name].mini
    assert find_task(task.short) == find_task(task.name) == task
    given = config
    for part in CORPORA[task.name].key.split("."):
        given = given[part]
    assert given is None


def test_other_tasks_of_s3prl_have_names_too():
    assert find_task("phone_linear").folder == "phone_linear"
    with pytest.raises(ConfigError, match="give s3prl's with -c"):
        read_task_config(find_task("phone_linear"), None)


def test_overrides_take_s3prls_form():
    config = read_task_config(find_task("ic"), None)
    changed, given = override(config, "config.optimizer.lr=0.5,,runner.log_step=7")
    assert changed["optimizer"]["lr"] == 0.5 and changed["runner"]["log_step"] == 7
    assert given == {"optimizer.lr", "runner.log_step"}


@pytest.mark.parametrize("text", ["downstream_expert.datarc.x=1", "optimiser.lr=1", "config=3"])
def test_an_override_of_nothing_is_an_error(text):
    """Guards against a typing error that changes nothing."""
    with pytest.raises(ConfigError):
        override(read_task_config(find_task("ic"), None), text)


def test_the_corpus_is_put_in(write_corpus: Callable[[str], Path], monkeypatch):
    """Guards --data-root and the environment variable."""
    root = write_corpus("snips")
    task = find_task("sf")
    config = read_task_config(task, None)
    placed = place_data(task, config, (), str(root))
    assert placed.config["downstream_expert"]["corpus"]["path"] == str(root)
    assert Path(placed.config["downstream_expert"]["text"]["vocab_file"]).is_file()
    assert not placed.mini
    monkeypatch.setenv("S3PRL_SPEECHCLIP_DATA", str(root.parent))
    assert place_data(task, config, (), None).config == placed.config


def test_a_missing_corpus_says_what_to_fetch(tmp_path: Path, monkeypatch):
    task = find_task("sid")
    config = read_task_config(task, None)
    with pytest.raises(CorpusError, match=r"VoxCeleb1.*--data-root DIR, which holds"):
        place_data(task, config, (), None)
    with pytest.raises(CorpusError, match=r"no '.*iden_split.txt'; fetch it from"):
        place_data(task, config, (), str(tmp_path))
    monkeypatch.setenv("S3PRL_SPEECHCLIP_DATA", str(tmp_path))
    with pytest.raises(CorpusError, match="S3PRL_SPEECHCLIP_DATA says"):
        place_data(task, config, (), None)


def test_a_corpus_given_by_override_is_left_as_it_is():
    """Guards -o with s3prl's own keys against being covered by the mini set."""
    task = find_task("ic")
    text = "downstream_expert.datarc.file_path=/data/fsc"
    config, given = override(read_task_config(task, None), text)
    placed = place_data(task, config, given, None)
    assert placed.root == "/data/fsc" and not placed.mini
