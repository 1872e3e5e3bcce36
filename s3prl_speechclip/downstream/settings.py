"""The configuration of a run: a task's YAML file, the user's overrides, and what they may hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ..config import merge, parse_overrides, read_yaml
from ..errors import ConfigError, unknown_name
from .task import EXPERT, Task, Values

FREE = ("optimizer", "scheduler", "specaug", "runner")  # sections that may gain keys


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """The section `runner`: s3prl's keys, and some of this runner's own."""

    total_steps: int = 0
    """Optimiser steps."""
    gradient_clipping: float = 1.0
    """Norm."""
    gradient_accumulate_steps: int = 1
    """Batches to an optimiser step."""
    log_step: int = 100
    """Steps between entries of the log."""
    eval_step: int = 1000
    """Steps between evaluations on dev; the last step is always evaluated."""
    save_step: int = 1000
    """Steps between checkpoints."""
    max_keep: int = 1
    """Checkpoints kept besides the best."""
    eval_dataloaders: tuple[str, ...] = ("dev",)
    """Splits of the evaluations in training; those of `test_dataloaders` are left for the end."""
    test_dataloaders: tuple[str, ...] = ("test",)
    """Splits that the best checkpoint is tested on, once."""
    train_dataloader: str = "train"
    evaluate_ratio: float = 1.0
    """Share of a dev split's batches that is read."""
    fp16: bool = False
    """s3prl's word for precision=fp16."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    num_workers: int | None = None
    """Processes that read; None: as the expert's own section says."""
    cache: Literal["auto", "pooled", "frames", "off"] = "auto"
    """Features of a frozen upstream that are kept on disk: means over time, frames, or none. auto:
    means where the head needs no more, else frames where they fit the budget, else none."""
    cache_precision: Literal["fp32", "fp16"] = "fp32"
    """Precision that they are kept in."""
    cache_gb: float = 20.0
    """Largest size of a run's frames under auto, 10^9 bytes."""
    cache_draws: int = 16
    """Draws of each item that training draws random numbers for, such as a crop."""
    encoder_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision in which kept features are computed; auto: bf16 where a GPU has it."""

    def __post_init__(self) -> None:
        for name in (
            "gradient_accumulate_steps",
            "log_step",
            "eval_step",
            "save_step",
            "max_keep",
            "cache_draws",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"runner.{name} must be at least 1, found {getattr(self, name)}")
        if self.total_steps < 0:
            raise ConfigError(f"runner.total_steps must not be negative, found {self.total_steps}")
        if self.gradient_clipping <= 0:
            raise ConfigError(
                f"runner.gradient_clipping must be above 0, found {self.gradient_clipping}"
            )
        if not 0 < self.evaluate_ratio <= 1:
            raise ConfigError(
                f"runner.evaluate_ratio is above 0 and at most 1, found {self.evaluate_ratio}"
            )


def config_folder() -> Path:
    """Return the folder of the configurations that come with the package."""
    return Path(str(resources.files("s3prl_speechclip.downstream_configs")))


def read_task_config(task: Task, path: Path | None) -> Values:
    """Read a task's configuration: the user's file, else the one that comes with the package.

    Raises:
        ConfigError: there is none, or it lacks what an expert needs.
    """
    if path is None:
        path = config_folder() / f"{task.name}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{task.name} has no configuration of its own here; give s3prl's with -c FILE"
            )
    config = read_yaml(path)
    if not isinstance(config.get(EXPERT), dict):
        raise ConfigError(f"'{path}' must hold the sections runner, optimizer, {EXPERT}")
    return config


def parse_changes(text: str) -> Values:
    """Read `-o`: `section.key=value,,...`, with or without s3prl's leading `config.`."""
    changes = parse_overrides(text)
    inner = changes.pop("config", {})
    if not isinstance(inner, dict):
        raise ConfigError(f"an override is 'section.key=value', found 'config={inner}'")
    return merge(changes, inner)


def override(config: Values, changes: Values) -> Values:
    """Merge overrides into a configuration, find its vocabularies, and read its learning rate.

    Raises:
        ConfigError: a missing vocabulary, or a learning rate that is no number.
    """
    config = merge(config, changes)
    found: Values = {}
    for section, key in (("text", "vocab_file"), ("datarc", "dict_path")):
        name = value_at(config[EXPERT], f"{section}.{key}")
        if not name:
            continue
        own = config_folder()
        # The last for a checkpoint's, whose package may have moved.
        places = (Path(name), own / name, own / "vocab" / Path(name).name)
        path = next((path for path in places if path.is_file()), None)
        if path is None:
            raise ConfigError(f"no vocabulary '{name}' ({EXPERT}.{section}.{key})")
        found[EXPERT] = {section: {key: str(path)}}
    rate = value_at(config, "optimizer.lr")
    if rate is not None:
        try:
            found["optimizer"] = {"lr": float(rate)}  # YAML reads 1e-4, without a point, as text
        except (TypeError, ValueError):
            raise ConfigError(f"optimizer.lr must be a number, found '{rate}'") from None
    return merge(config, found)


def check_keys(config: Any, changes: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
    """Check the keys of overrides against a configuration.

    Raises:
        ConfigError: a key that the configuration lacks; the message names the nearest.
    """
    for key, value in changes.items():
        if not above and key in FREE:
            continue
        known = config if isinstance(config, Mapping) else {}
        if key not in known:
            raise ConfigError(
                unknown_name(
                    "configuration key",
                    ".".join([*above, str(key)]),
                    [".".join([*above, str(other)]) for other in known],
                )
            )
        if isinstance(value, Mapping):
            check_keys(known[key], value, (*above, str(key)))


def refuse_code(value: Any, where: str = "") -> None:
    """Refuse configuration texts that could call something: s3prl's experts pass names to `eval`.

    A checkpoint from elsewhere brings its configuration. Without brackets an expression calls
    nothing; an absolute path is no expression.

    Raises:
        ConfigError: there is one.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_code(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            refuse_code(inner, where)
    elif isinstance(value, str) and not os.path.isabs(value) and set(value) & set("([{"):
        raise ConfigError(
            f"{where}: '{value[:60]}' could run code, since s3prl evaluates such texts; give a "
            "name without brackets"
        )


def value_at(values: Any, dotted: str) -> Any:
    """Return the value of a dotted key; None where a part of it is missing."""
    for name in dotted.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def without_paths(value: Any) -> Any:
    """Leave out of a configuration what holds on one machine only: absolute paths."""
    if isinstance(value, Mapping):
        kept = {key: without_paths(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        return [inner for inner in map(without_paths, value) if inner is not None]
    return None if isinstance(value, str) and os.path.isabs(value) else value
