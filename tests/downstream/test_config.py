"""The tasks' configurations, and where their corpora are looked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s3prl_speechclip.config import build
from s3prl_speechclip.downstream.plan import Plan, resolve
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.settings import RunnerConfig, read_task_config
from s3prl_speechclip.downstream.task import EXPERT, Task, all_tasks, find_task
from s3prl_speechclip.errors import ConfigError, CorpusError
from s3prl_speechclip.minis import MiniSet

SUPERB = {  # steps, batches accumulated, learning rate
    "fluent_commands": (200_000, 1, 1e-4),
    "snips": (200_000, 1, 1e-4),
    "libriphone": (100_000, 2, 1e-2),
    "speech_commands": (200_000, 1, 1e-4),
    "voxceleb1": (200_000, 4, 1e-4),
    "emotion": (30_000, 8, 1e-4),
    "asr": (200_000, 1, 1e-4),
}


def plan(task: str, root: Path, override: str = "") -> Plan:
    return resolve(Request(task=task, data_root=str(root), override=override))


@pytest.mark.parametrize("name", SUPERB)
def test_the_defaults_are_superbs(name, write_corpus: Callable[[str], Path]):
    """Guards comparability against a changed YAML."""
    found = plan(name, write_corpus(name))
    runner = found.runner
    steps = runner.total_steps, runner.gradient_accumulate_steps, found.config["optimizer"]["lr"]
    assert steps == SUPERB[name]
    assert not set(runner.eval_dataloaders) & set(runner.test_dataloaders)


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.name)
def test_every_task_has_what_a_run_needs(task: Task):
    """Guards the declaration and the YAML of a task against missing one another."""
    config = read_task_config(task, None)
    build(RunnerConfig, config["runner"])
    assert task.layout is not None and task.metrics
    assert find_task(task.short) == find_task(task.name) == task
    given = config[EXPERT]
    for part in task.layout.key.split("."):
        given = given[part]
    assert given is None


def test_other_tasks_of_s3prl_have_names_too():
    assert find_task("phone_linear").folder == "phone_linear"
    with pytest.raises(ConfigError, match="give s3prl's with -c"):
        read_task_config(find_task("phone_linear"), None)


def test_overrides_take_s3prls_form(write_corpus: Callable[[str], Path]):
    root = write_corpus("fluent_commands")
    changed = plan("ic", root, "config.optimizer.lr=0.5,,runner.log_step=7")
    assert changed.config["optimizer"]["lr"] == 0.5 and changed.runner.log_step == 7


@pytest.mark.parametrize("text", ["downstream_expert.datarc.x=1", "optimiser.lr=1", "config=3"])
def test_an_override_of_nothing_is_an_error(text, write_corpus: Callable[[str], Path]):
    """Guards against a typing error that changes nothing."""
    with pytest.raises(ConfigError):
        plan("ic", write_corpus("fluent_commands"), text)


def test_the_corpus_is_put_in(write_corpus: Callable[[str], Path], monkeypatch):
    """Guards --data-root and the environment variable."""
    root = write_corpus("snips")
    placed = plan("sf", root)
    assert placed.config[EXPERT]["corpus"]["path"] == str(root)
    assert Path(placed.config[EXPERT]["text"]["vocab_file"]).is_file()
    assert not placed.data.mini
    monkeypatch.setenv("S3PRL_SPEECHCLIP_DATA", str(root.parent))
    assert resolve(Request(task="sf")).config == placed.config


def test_a_missing_corpus_says_what_to_fetch(tmp_path: Path, monkeypatch):
    with pytest.raises(CorpusError, match=r"VoxCeleb1.*--data-root DIR, which holds"):
        resolve(Request(task="sid"))
    with pytest.raises(CorpusError, match=r"no '.*iden_split.txt'; fetch it from"):
        plan("sid", tmp_path)
    monkeypatch.setenv("S3PRL_SPEECHCLIP_DATA", str(tmp_path))
    with pytest.raises(CorpusError, match="S3PRL_SPEECHCLIP_DATA says"):
        resolve(Request(task="sid"))


def test_a_corpus_given_by_override_is_left_as_it_is():
    """Guards -o with s3prl's own keys against being covered by the mini set."""
    text = "downstream_expert.datarc.file_path=/data/fsc"
    placed = resolve(Request(task="ic", override=text))
    assert placed.data.root == "/data/fsc" and not placed.data.mini


def test_an_override_wins_over_the_settings_of_a_mini_set(tmp_path: Path, monkeypatch):
    """Guards -o against being covered by the mini set's settings, which come after the YAML."""
    made = MiniSet(tmp_path, ("a note",), {"runner": {"total_steps": 9, "log_step": 3}})
    for name in ("train", "valid", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}_data.csv").touch()
    monkeypatch.setattr("s3prl_speechclip.downstream.plan.mini_set", lambda *_: made)
    found = resolve(Request(task="ic", override="runner.total_steps=4"))
    assert (found.runner.total_steps, found.runner.log_step) == (4, 3)
    assert found.data.mini and found.data.notes == ("a note",)
    own = tmp_path / "own.yaml"
    own.write_text("runner: {total_steps: 7}\ndownstream_expert: {datarc: {}}\n", encoding="utf-8")
    assert resolve(Request(task="ic", config=own)).runner.total_steps == 7
