"""The downstream tasks and their configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ..config import build, merge, parse_overrides, read_yaml
from ..errors import ConfigError, unknown_name

FREE = ("optimizer", "scheduler", "specaug", "runner")  # sections that may gain keys


@dataclass(frozen=True, kw_only=True)
class Task:
    """A downstream task of s3prl's."""

    name: str
    """Of `-d`."""
    short: str = ""
    """Of `-d`, as SUPERB abbreviates it."""
    expert: str = ""
    """Folder in `s3prl.downstream`; empty: as the name."""
    title: str = ""
    """For people."""
    metric: str = ""
    """Decides between learning rates, and is shown; empty: unknown."""
    higher_is_better: bool = True
    dev: str = "dev"
    """The split that the metric is compared on."""

    @property
    def folder(self) -> str:
        return self.expert or self.name


TASKS = (
    Task(name="fluent_commands", short="ic", title="intent classification", metric="acc"),
    Task(name="snips", short="sf", expert="ctc", title="slot filling", metric="slot_type_f1"),
    Task(
        name="libriphone",
        short="pr",
        expert="ctc",
        title="phone recognition",
        metric="per",
        higher_is_better=False,
    ),
    Task(name="speech_commands", short="ks", title="keyword spotting", metric="acc"),
    Task(name="quesst14_dtw", short="qbe", title="query by example", metric="maxTWV"),
    Task(name="voxceleb1", short="sid", title="speaker identification", metric="acc"),
    Task(name="emotion", short="er", title="emotion recognition", metric="acc"),
    Task(
        name="asr",
        short="asr",
        title="speech recognition",
        metric="wer",
        higher_is_better=False,
        dev="dev-clean",
    ),
    Task(
        name="sv_voxceleb1",
        short="asv",
        title="speaker verification",
        metric="EER",
        higher_is_better=False,
    ),
    Task(name="diarization", short="sd", title="speaker diarization", metric="acc"),
)


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
    feature_cache: Literal["off", "fp32", "fp16"] = "off"
    """Keep a frozen upstream's features of each recording in memory, in this precision."""
    feature_cache_gb: float = 4.0
    """Memory for them, 10^9 bytes; the rest is computed every time."""

    def __post_init__(self) -> None:
        counts = ("gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep")
        for name in counts:
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


def find_task(name: str) -> Task:
    """Give the task of a name, full or short; others of s3prl's by their folder.

    Raises:
        ConfigError: s3prl has no such task.
    """
    for task in TASKS:
        if name in (task.name, task.short):
            return task
    folders = _s3prl_folders()
    if name in folders and name != "ctc":
        return Task(name=name)
    known = [*(task.name for task in TASKS), *(task.short for task in TASKS if task.short)]
    raise ConfigError(unknown_name("downstream task", name, [*known, *(folders - {"ctc"})]))


def _s3prl_folders() -> set[str]:
    """Name the tasks that s3prl has an expert for; nothing of it is imported."""
    from importlib.util import find_spec

    spec = find_spec("s3prl")
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return {
        path.parent.name for place in places for path in Path(place).glob("downstream/*/expert.py")
    }


def read_task_config(task: Task, path: Path | None) -> dict[str, Any]:
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
    if not isinstance(config.get("downstream_expert"), dict):
        raise ConfigError(f"'{path}' must hold the sections runner, optimizer, downstream_expert")
    return config


def config_folder() -> Path:
    """Give the folder of the configurations that come with the package."""
    return Path(str(resources.files("s3prl_speechclip.downstream_configs")))


def override(config: Mapping[str, Any], text: str) -> tuple[dict[str, Any], set[str]]:
    """Lay `-o` over a configuration.

    Args:
        config: of a task.
        text: `section.key=value,,...`; s3prl's leading `config.` may be there.

    Returns:
        The new configuration, and the dotted keys that were given.

    Raises:
        ConfigError: an item that is not `key=value`, or a key that the configuration lacks.
    """
    changes = parse_overrides(text)
    inner = changes.pop("config", {})
    if not isinstance(inner, dict):
        raise ConfigError(f"an override is 'section.key=value', found 'config={inner}'")
    changes = merge(changes, inner)
    given = set()
    for names in _leaves(changes):
        given.add(".".join(names))
        where: Any = config
        for depth, name in enumerate(names):
            if names[0] in FREE and depth > 0:
                break
            if not isinstance(where, dict) or (name not in where and name not in FREE):
                known = where if isinstance(where, dict) else {}
                raise ConfigError(
                    unknown_name(
                        "configuration key",
                        ".".join(names[: depth + 1]),
                        [".".join([*names[:depth], str(key)]) for key in known],
                    )
                )
            where = where.get(name, {})
    return merge(config, changes), given


def runner_config(config: Mapping[str, Any]) -> RunnerConfig:
    """Read the section `runner`.

    Raises:
        ConfigError: an unknown key, or a value that cannot be used.
    """
    values = dict(config.get("runner") or {})
    if values.get("fp16"):
        values["precision"] = "fp16"
    return build(RunnerConfig, values, "runner")


def _leaves(changes: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key))
