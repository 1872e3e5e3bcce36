"""The checkpoints of a run, and where a run starts from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import read
from ..checkpoints.locate import RUN_CONFIG
from ..checkpoints.native import CONFIG_FILE, StoredModel, read_checkpoint, write_checkpoint
from ..config import flat, plain
from ..errors import CheckpointError, ConfigError, first_line
from ..runtime.run_folder import atomic_write, drop_old, link, numbered, read_newest, read_values
from .config import PretrainConfig, read_config, write_config

logger = logging.getLogger(__name__)

STATE_FILE = "trainer.pt"
STEP = "step-"
LAST, BEST = "last", "best"
MAY_CHANGE = ("data.root", "data.archive", "data.num_workers", "runner.total_steps")
"""Settings that change where a run is resumed, not what it computes, and its length."""


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """Where a run stands, beside its model's weights."""

    step: int = 0
    """Optimiser steps taken. Epoch and position in it follow from this and the configuration."""
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)
    """State of fp16's loss scale; empty in another precision."""
    rng: Mapping[str, Tensor] = field(default_factory=dict)
    """Random state of dropout, by `process/device`."""
    best_step: int = 0
    best_recall: float = -1.0
    """Mean recall@10 on validation in percent; below 0 before the first measurement."""
    formal: Mapping[str, Any] = field(default_factory=dict)
    """Language model and discriminator of formal supervision; empty without."""
    skipped: int = 0
    """Steps not taken because their loss or gradient was not finite."""

    def random_state(self, rank: int) -> dict[str, Tensor]:
        """Return a process's random state, or the first one's where the past run had fewer."""
        prefix = f"{rank}/" if f"{rank}/cpu" in self.rng else "0/"
        return {k.removeprefix(prefix): v for k, v in self.rng.items() if k.startswith(prefix)}


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts from."""

    model: StoredModel | None = None
    """Initial weights, or None: new ones."""
    state: TrainerState | None = None
    """Optimiser, step and random state of the past run, or None: training begins at step 0."""
    config: PretrainConfig | None = None
    """Configuration of the past run."""
    folder: Path | None = None
    """The past run's experiment folder."""


def find_start(past: Path) -> Start:
    """Read what `-e` names: an experiment or checkpoint folder, or an official checkpoint.

    Raises:
        CheckpointError: there is no such thing, or it cannot be read.
    """
    if (past / RUN_CONFIG).is_file():
        model, state = load_newest(past)
        return Start(model=model, state=state, config=read_config(past / RUN_CONFIG), folder=past)
    if not (past / STATE_FILE).is_file():
        return Start(model=read(past))
    model, state = _load_checkpoint(past)
    path = past.resolve().parent / RUN_CONFIG
    return Start(model=model, state=state, config=read_config(path) if path.is_file() else None)


def choose_start(folder: Path, past: Start, auto_resume: bool) -> Start:
    """Return where a run in an experiment folder starts from: `past` is what `-e` names.

    With `auto_resume` the folder's own newest checkpoint takes precedence.

    Raises:
        ConfigError: the folder holds another run.
        CheckpointError: none of its checkpoints can be read.
    """
    checkpoints = find_checkpoints(folder)
    if checkpoints and auto_resume:
        model, state = load_newest(folder)
        past = Start(model=model, state=state, folder=folder)
    elif checkpoints and past.folder != folder:
        raise ConfigError(
            f"'{folder}' already holds a run: resume it with -a, name another folder with -n or "
            "-p, or remove it"
        )
    if past.state is None or past.state.best_step in checkpoints:
        return past
    return replace(past, state=replace(past.state, best_step=0, best_recall=-1.0))


def resumed_config(folder: Path, config: PretrainConfig) -> PretrainConfig:
    """Return the configuration of a run that is resumed, with its own initial weights.

    Those are not read again, wherever a job finds them now. What else has changed is named.

    Raises:
        ConfigError: another seed, which the run's first steps did not have.
    """
    path = folder / RUN_CONFIG
    if not path.is_file():
        return config
    past = read_config(path)
    if config.seed != past.seed:
        raise ConfigError(
            f"'{folder}' holds a run with seed {past.seed}, found {config.seed}; give that one, or "
            "begin another run with -n"
        )
    if config.init != past.init:
        logger.warning("the run resumes, and does not read '%s'", config.init)
    config = replace(config, init=past.init, init_parts=past.init_parts)
    before, now = (flat(plain(one)) for one in (past, config))
    names = dict.fromkeys((*before, *now))  # an architecture may have keys in one alone
    changed = [n for n in names if now.get(n) != before.get(n) and n not in MAY_CHANGE]
    if changed:
        both = ", ".join(f"{name} {before.get(name)} -> {now.get(name)}" for name in changed)
        logger.warning("resuming with other settings than before: %s", both)
    return config


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Find the checkpoints of an experiment by step, the oldest first.

    They lie in folders `step-N`, and in `last` and `best` where a copy followed these links.
    """
    found = numbered(folder, STEP)
    for path in (folder / BEST, folder / LAST):
        if path.is_dir() and not path.is_symlink():
            found.setdefault(_stored_step(path), path)
    return dict(sorted(found.items()))


def load_newest(folder: Path) -> tuple[StoredModel, TrainerState]:
    """Load the newest checkpoint of an experiment that can be read.

    Raises:
        CheckpointError: there is none.
    """
    checkpoints = find_checkpoints(folder)
    if not checkpoints:
        raise CheckpointError(
            f"cannot resume from '{folder}': no checkpoint in it; give another folder with -e"
        )
    return read_newest(list(checkpoints.values()), _load_checkpoint)[1]


def _load_checkpoint(folder: Path) -> tuple[StoredModel, TrainerState]:
    """Load one checkpoint folder of a run; an error where it is incomplete or damaged."""
    path = folder / STATE_FILE
    if not path.is_file():
        raise CheckpointError(
            f"cannot resume from '{folder}': it lacks {STATE_FILE}; give an experiment folder"
        )
    try:
        state = TrainerState(**read_values(path))
    except TypeError as error:
        raise CheckpointError(f"'{path}' is damaged: {first_line(error)}") from error
    return read_checkpoint(folder), state


def save_checkpoint(folder: Path, model: StoredModel, state: TrainerState, max_keep: int) -> None:
    """Write the checkpoint of a step; of all keep the best and the `max_keep` newest.

    Raises:
        CheckpointError: it cannot be written, with the system's reason.
    """
    target = folder / f"{STEP}{state.step:08d}"
    with atomic_write(target) as partial:
        write_checkpoint(partial, model)
        torch.save({f.name: getattr(state, f.name) for f in fields(state)}, partial / STATE_FILE)
    _link(folder, state)
    best = folder / f"{STEP}{state.best_step:08d}"
    drop_old(numbered(folder, STEP).values(), max_keep, spared=[best])


def prepare_folder(folder: Path, config: PretrainConfig, state: TrainerState | None) -> None:
    """Make an experiment folder ready to be written to; in a resumed one mend what a copy lost.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / RUN_CONFIG, config)
        for step, path in find_checkpoints(folder).items():
            if step < 0 or (state is not None and step > state.step):
                path.rename(path.with_name(f"damaged-{path.name}"))
            elif path.name in (LAST, BEST):
                path.rename(folder / f"{STEP}{step:08d}")
        if state is not None:
            _link(folder, state)
    except OSError as error:
        raise CheckpointError(f"cannot write to '{folder}': {error.strerror}") from error


def _link(folder: Path, state: TrainerState) -> None:
    """Point `last` and `best` at a state's checkpoints, for people and for `-k`."""
    for name, step in ((LAST, state.step), (BEST, state.best_step)):
        target = folder / f"{STEP}{step:08d}"
        if target.is_dir():
            link(folder / name, target)


def _stored_step(folder: Path) -> int:
    """Return the step of a checkpoint folder; -1 where that cannot be read."""
    try:
        about = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        return int(about["about"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1
