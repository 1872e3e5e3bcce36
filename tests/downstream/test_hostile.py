"""Checkpoints and corpora from elsewhere: nothing in them is run."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from downstream_runs import ask

from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.downstream.run_state import RunFolder, read_state
from s3prl_speechclip.downstream.upstreams import load_upstream
from s3prl_speechclip.errors import CheckpointError, ConfigError, CorpusError

Write = Callable[[str], Path]
CODE = "__import__('pathlib').Path('{}').touch()"


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class Rebuilt:
    """Unpickled by REDUCE with arguments, state (BUILD) and items, each holding the weapon."""

    def __init__(self, weapon: object, place: str) -> None:
        self.weapon, self.place = weapon, place

    def __reduce_ex__(self, protocol):
        if self.place == "arguments":
            return list, ([self.weapon],)
        items = iter([self.weapon]) if self.place == "list items" else None
        pairs = iter([("inner", self.weapon)]) if self.place == "dict items" else None
        if self.place == "state":
            return argparse.Namespace, (), {"inner": self.weapon}
        return (dict if pairs else list), (), None, items, pairs


def contents(**changes: Any) -> dict[str, Any]:
    values = {"Step": 1, "Config": {}, "Args": argparse.Namespace(), "Downstream": {}}
    return values | changes


@pytest.mark.parametrize("part", ["Downstream", "Optimizer", "Scheduler", "Scaler", "Args"])
@pytest.mark.parametrize("how", ["bare", "arguments", "state", "list items", "dict items"])
def test_a_checkpoint_runs_nothing(tmp_path: Path, part: str, how: str) -> None:
    """Fault: code hidden in the optimiser's state, or in the class that s3prl's files may hold."""
    victim = tmp_path / "ran"
    weapon = Touch(victim) if how == "bare" else Rebuilt(Touch(victim), how)
    hidden = {"a": [({"b": weapon},)]}
    value = argparse.Namespace(**hidden) if part == "Args" else hidden
    path = tmp_path / "states-1.ckpt"
    torch.save(contents(**{part: value}), path)
    with pytest.raises(CheckpointError, match=str(path)) as error:
        read_state(path)
    with pytest.raises(CheckpointError):
        run(Request(past=tmp_path, evaluate=True, device="cpu"))
    assert "\n" not in str(error.value) and not victim.exists()


@pytest.mark.parametrize(
    "key",
    [
        ("downstream_expert", "modelrc", "select"),
        ("downstream_expert", "modelrc", "UtteranceLevel", "pooling"),
        ("optimizer", "name"),
        ("scheduler", "name"),
        ("runner", "eval_dataloaders"),
    ],
)
def test_a_configuration_in_a_checkpoint_runs_nothing(
    write_corpus: Write, tmp_path: Path, key: tuple[str, ...]
) -> None:
    """Fault: s3prl's experts, optimisers and loaders give these texts to `eval`."""
    victim = tmp_path / "ran"
    run(ask("fluent_commands", write_corpus("fluent_commands"), tmp_path / "run", steps=1))
    for path in (tmp_path / "run").glob("*.ckpt"):
        values = torch.load(path, weights_only=False)
        where = values["Config"]
        for name in key[:-1]:
            where = where.setdefault(name, {})
        code = CODE.format(victim)
        where[key[-1]] = [code] if key[0] == "runner" else code
        torch.save(values, path)
    past = tmp_path / "run"
    for request in (
        Request(past=past, evaluate=True, device="cpu"),
        Request(past=past, override="runner.total_steps=2", device="cpu"),
    ):
        with pytest.raises(ConfigError, match=r"could run code") as error:
            run(request)
        assert "\n" not in str(error.value) and not victim.exists()
    assert RunFolder(past).last() is not None


@pytest.mark.parametrize("name", ["distiller_local", "mockingjay_local", "hubert_local"])
def test_weights_of_an_upstream_run_nothing(tmp_path: Path, name: str) -> None:
    """Fault: s3prl loads some files with weights_only=False."""
    victim, path = tmp_path / "ran", tmp_path / "weights.ckpt"
    torch.save({"Config": {}, "Settings": {}, "model": Touch(victim)}, path)
    with pytest.raises(ConfigError) as error:
        load_upstream(name, str(path), None, torch.device("cpu"))
    assert "weights_only" in str(error.value).lower() or "Unpickling" in str(error.value)
    assert "\n" not in str(error.value) and not victim.exists()


@pytest.mark.parametrize("entry", ["a touch {} |", "a  touch {}|  ", "a -"])
def test_a_command_in_a_list_of_recordings_is_refused(tmp_path: Path, entry: str) -> None:
    """Fault: s3prl's diarization runs an entry of wav.scp that ends in `|` in a shell."""
    victim = tmp_path / "ran"
    for name in ("train", "dev", "test"):
        (tmp_path / name).mkdir()
    line = entry.format(victim)
    (tmp_path / "dev" / "wav.scp").write_text(f"x /data/x.wav\n{line}\n", encoding="utf-8")
    request = Request(
        task="sd", upstream="fbank", data_root=str(tmp_path), folder=tmp_path / "run", device="cpu"
    )
    with pytest.raises(CorpusError, match=r"wav\.scp' line 2: .*commands are not run") as error:
        run(request)
    assert "\n" not in str(error.value) and not victim.exists()
