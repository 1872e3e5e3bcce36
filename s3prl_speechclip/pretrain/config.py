"""Configuration of a pretraining run: presets, a user's file, overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from ..atomic import atomic_file
from ..config import LARGEST_SEED, build, merge, parse_overrides, plain, read_yaml
from ..errors import ConfigError, unknown_name
from ..model.config import ModelConfig, find_variant
from ..runtime.optimization import OptimizerConfig, SchedulerConfig
from ..structures import WINDOW

PRESETS = ("mini", "mini_scratch", "base", "large", "slides", "slides_mini")
DEFAULT_PRESET = "mini"
MAY_BE_ZERO = (
    "eval_step",
    "gradient_clipping",
    "spectral_start_steps",
)  # of RunnerConfig; no other number


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    total_steps: int = 50_000
    """Optimiser steps."""
    log_step: int = 20
    """Steps between lines of the log."""
    eval_step: int = 500
    """Steps between measurements of recall on validation; 0: none, and the last checkpoint is the
    best."""
    save_step: int = 500
    """Steps between checkpoints."""
    max_keep: int = 1
    """Checkpoints kept besides the best."""
    gradient_clipping: float = 4.0
    """Norm that gradients are clipped to; 0: no clipping."""
    gradient_accumulate_steps: int = 1
    """Batches per optimiser step; each has its own contrastive loss."""
    gradient_cache: int = 1
    """Chunks that a batch is embedded in, twice, where it does not fit into memory whole; 1: whole.
    For one process. The keywords' batch norm sees a chunk at a time."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """At a loss or gradient that is NaN or infinite: stop with the batch's recordings, or skip the
    step and count it in the log."""
    spectral_start_steps: int = 0
    """Steps in which a speech encoder with random weights first learns the spectrum."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the forward pass; auto: bf16 where the device computes in it, else fp16 on a GPU
    and fp32 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    corpus: str = "stamps"
    """Name of the corpus, one of `--data`."""
    also: tuple[str, ...] = ()
    """Other corpora whose training splits are added, such as named_pictures."""
    root: str = ""
    """Folder of the corpus; empty: the default place of the corpus."""
    archive: str = ""
    """Package file of `stamps`, for machines without apt."""
    batch_size: int = 256
    """Recordings per batch, over all processes."""
    eval_batch_size: int = 64
    max_samples: int = 102_400
    """Length that training recordings are cropped to, 6.4 s at 16 kHz."""
    num_workers: int = 4
    """Reading processes; 0: the training process reads."""
    cache_features: Literal["auto", "on", "off"] = "auto"
    """Compute a frozen speech encoder's hidden states once and read them from disk; auto: where
    they take 6 GB at most. Recordings are then encoded whole and cropped in frames."""
    languages: tuple[str, ...] = ()
    """Languages of the recordings to train on (ISO 639-1); empty: all."""
    skip_broken: bool = False
    """Skip recordings and images that are missing or damaged, and report their number."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    seed: int = 0
    init: str = ""
    """Trained model, of any variant, whose weights a new one begins with where part, name and shape
    agree: a folder, a file or a name, as `-k` takes it."""
    init_parts: tuple[str, ...] = ("branch", "layer_mix")
    """Beginnings of the names that are taken, such as `branch.head`, the keyword head."""
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


def resolve_config(
    variant: str, source: str = DEFAULT_PRESET, overrides: str = "", **changes: Any
) -> PretrainConfig:
    """Build the configuration of a run.

    Args:
        variant: hub name of the model.
        source: name of a preset, or path of a YAML file, whose values override those of the preset
            in its key `preset` (default: mini).
        overrides: values of `-o`, `runner.total_steps=50,,data.batch_size=16`.
        **changes: sections that override all others, as nested mappings.

    Raises:
        ConfigError: an unknown name, key or preset, or a value that cannot be used.
    """
    find_variant(variant)
    if source in PRESETS:
        values = _read_preset(source, variant)
    elif Path(source).is_file():
        own = read_yaml(source)
        values = _override(_read_preset(own.pop("preset", DEFAULT_PRESET), variant), own)
    else:
        raise ConfigError(
            f"{unknown_name('preset', source, PRESETS)}; or give the path of a YAML file"
        )
    values = _override(values, merge(parse_overrides(overrides), changes))
    return _checked(merge(values, {"model": {"variant": variant}}))


def change_config(
    config: PretrainConfig, overrides: str = "", changes: Mapping[str, Any] | None = None
) -> PretrainConfig:
    """Return a changed configuration: `changes` as nested mappings first, then those of `-o`.

    Raises:
        ConfigError: as `resolve_config`.
    """
    return _checked(
        _override(plain(config), merge(dict(changes or {}), parse_overrides(overrides)))
    )


def read_config(path: Path) -> PretrainConfig:
    """Read the resolved configuration that a run wrote."""
    return _checked(read_yaml(path))


def write_config(path: Path, config: PretrainConfig) -> None:
    """Write a resolved configuration; the file appears whole or not at all."""
    with atomic_file(path) as partial:
        text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
        partial.write_text(text, encoding="utf-8")


def _read_preset(name: str, variant: str) -> dict[str, Any]:
    """Read a preset's values for a variant, merged into those of the preset below it."""
    if name not in PRESETS:
        raise ConfigError(unknown_name("preset", name, PRESETS))
    text = (resources.files("s3prl_speechclip") / "presets" / f"{name}.yaml").read_text("utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    values = merge(values, values.pop("variants", {}).get(variant, {}))
    below = values.pop("preset", None)
    return values if below is None else merge(_read_preset(below, variant), values)


def _override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into values; another corpus is trained on without `also`, unless it is set."""
    data, new = values.get("data", {}), changes.get("data", {})
    if "also" not in new and new.get("corpus", data.get("corpus")) != data.get("corpus"):
        changes = merge(changes, {"data": {"also": []}})
    return merge(values, changes)


def _checked(values: Mapping[str, Any]) -> PretrainConfig:
    """Build a configuration, and refuse numbers that no run can have."""
    config = build(PretrainConfig, values)
    for name, value in plain(config.runner).items():
        least = 0 if name in MAY_BE_ZERO else 1
        if not isinstance(value, str) and value < least:
            raise ConfigError(f"runner.{name} must be at least {least}, found {value}")
    for name, value in (("lr", config.optimizer.lr), ("eps", config.optimizer.eps)):
        if value <= 0:
            raise ConfigError(f"optimizer.{name} must be above 0, found {value}")
    if not all(0 <= beta < 1 for beta in config.optimizer.betas):
        raise ConfigError(
            f"optimizer.betas must be at least 0 and below 1, found {config.optimizer.betas}"
        )
    for name, least in (
        ("batch_size", 1),
        ("eval_batch_size", 1),
        ("max_samples", WINDOW),
        ("num_workers", 0),
    ):
        value = getattr(config.data, name)
        if value < least:
            raise ConfigError(f"data.{name} must be at least {least}, found {value}")
    if config.optimizer.weight_decay < 0:
        raise ConfigError(
            f"optimizer.weight_decay must be 0 or more, found {config.optimizer.weight_decay}"
        )
    if not 0 <= config.seed <= LARGEST_SEED:
        raise ConfigError(f"the seed must be 0 to {LARGEST_SEED}, found {config.seed}")
    return config
