"""The checkpoints of a run: what a model is, and what going on needs."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.native import StoredModel, read_checkpoint, write_checkpoint
from ..errors import CheckpointError

STATE_FILE = "trainer.pt"
STEP_FOLDER = "step-{:08d}"
LAST, BEST = "last", "best"


@dataclass(frozen=True)
class TrainerState:
    """Where a run stands."""

    step: int
    """Optimiser steps taken. Epoch and place in it follow from this and the configuration."""
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    """Of fp16's loss scale; empty otherwise."""
    rng: Mapping[str, Tensor]
    """Random state of dropout, by `process/device`."""
    best_step: int
    best_recall: float
    """Mean recall@10 on validation in percent; below 0 before the first measurement."""


class RunCheckpoints:
    """The checkpoint folders of one experiment.

    Each lies in a folder `step-N` that appears whole or not at all; `last` and `best` are links to
    the newest and the best, so that a run that is killed at any moment leaves both readable.

    Args:
        folder: of the experiment.
        max_keep: checkpoints kept besides the best.
    """

    def __init__(self, folder: Path, max_keep: int = 1) -> None:
        self.folder = folder
        self.max_keep = max_keep

    def save(self, stored: StoredModel, state: TrainerState) -> Path:
        """Write the checkpoint of a step, point `last` at it, and drop what is no longer kept.

        Raises:
            CheckpointError: it cannot be written, with the system's reason.
        """
        target = self.folder / STEP_FOLDER.format(state.step)
        partial = target.with_name(target.name + ".partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            write_checkpoint(partial, stored)
            torch.save(_plain(state), partial / STATE_FILE)
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
            self._link(LAST, target)
        except (OSError, RuntimeError, CheckpointError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"cannot write the checkpoint '{target}' ({error}); make room and go on with -a"
            ) from error
        self._drop_old()
        return target

    def mark_best(self, step: int) -> None:
        """Point `best` at the checkpoint of a step."""
        self._link(BEST, self.folder / STEP_FOLDER.format(step))
        self._drop_old()

    def has_last(self) -> bool:
        """Say whether there is a checkpoint to go on from."""
        return (self.folder / LAST / STATE_FILE).is_file()

    def load_last(self) -> tuple[StoredModel, TrainerState]:
        """Read the newest checkpoint.

        Raises:
            CheckpointError: there is none, or it cannot be read.
        """
        return read_run_checkpoint(self.folder / LAST)

    def _link(self, name: str, target: Path) -> None:
        partial = self.folder / f"{name}.partial"
        partial.unlink(missing_ok=True)
        partial.symlink_to(target.name, target_is_directory=True)
        os.replace(partial, self.folder / name)

    def _drop_old(self) -> None:
        steps = sorted(p for p in self.folder.glob("step-*") if p.name[5:].isdigit())
        linked = {(self.folder / name).resolve() for name in (LAST, BEST)}
        for folder in steps[: -self.max_keep]:
            if folder.resolve() not in linked:
                shutil.rmtree(folder)


def read_run_checkpoint(folder: Path) -> tuple[StoredModel, TrainerState]:
    """Read one checkpoint folder of a run, to go on from it.

    Raises:
        CheckpointError: it is missing, or holds no trainer state that can be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise CheckpointError(
            f"'{folder}' cannot be gone on from: it lacks {STATE_FILE}; give an experiment folder"
        )
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        state = TrainerState(**values)
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"'{path}' is damaged: {reason}") from error
    return read_checkpoint(folder), state


def _plain(state: TrainerState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainerState.__dataclass_fields__}
