"""The checkpoints of a downstream run, under s3prl's names and with its keys."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..runtime.run_folder import atomic_write, drop_old, numbered, read_newest, read_values
from .task import Scores

BEST = "dev-best.ckpt"
LAST, SUFFIX = "states-", ".ckpt"  # around the step


@dataclass(frozen=True)
class Weights:
    """The weights of the upstream that a probe was trained on."""

    source: str
    """Value of `-k`."""
    sha256: str
    """Digest of the file that holds them; empty where that is not known."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a downstream run."""

    step: int
    """Optimiser steps taken; epoch and position follow from it."""
    config: dict[str, Any]
    arguments: dict[str, Any]
    """Arguments of s3prl's command line."""
    parts: dict[str, Any]
    """Weights: Featurizer, Downstream, and Upstream where it is fine-tuned."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of fp16's loss scale; empty otherwise."""
    scores: Scores = field(default_factory=dict)
    """Scores of the last evaluation on dev."""

    @property
    def weights(self) -> Weights | None:
        """The upstream's weights, where they are recorded."""
        recorded = (self.arguments.get("about") or {}).get("upstream")
        return Weights(**recorded) if recorded else None

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names of the head's outputs; empty where they are not recorded."""
        return dict((self.arguments.get("about") or {}).get("labels") or {})

    @property
    def cache(self) -> str:
        """Kind of features that were kept on disk; empty where it is not recorded."""
        return str((self.arguments.get("about") or {}).get("cache", ""))


class RunFolder:
    """The files of one experiment.

    Args:
        path: folder of the experiment.
        max_keep: checkpoints kept besides the best.
    """

    def __init__(self, path: Path, max_keep: int = 1) -> None:
        self.path = path
        self.max_keep = max_keep

    def save(self, state: RunState, best: bool) -> None:
        """Write the checkpoint of a step, also as the best; each appears whole or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        import torch  # late: the command line's --help reads this module

        values = {
            "Step": state.step,
            "Config": state.config,
            "Args": argparse.Namespace(**state.arguments),
            "Optimizer": state.optimizer,
            "Scheduler": state.scheduler,
            "Scaler": state.scaler,
            "Scores": state.scores,
            **state.parts,
        }
        for name in (f"{LAST}{state.step}{SUFFIX}", *([BEST] if best else [])):
            with atomic_write(self.path / name) as partial:
                torch.save(values, partial)
        drop_old(self.steps(), self.max_keep)

    def last(self) -> Path | None:
        """Return the newest checkpoint that can be read, if there is one.

        Raises:
            CheckpointError: there are some, and none can be read.
        """
        best = self.path / BEST  # a complete checkpoint too, no newer than the others
        steps = self.steps()
        found = [*([best] if best.is_file() else []), *steps]
        return read_newest(found, read_state)[0] if steps else None

    def best(self) -> Path | None:
        """Return the checkpoint that was best on dev; where none ever was, the newest."""
        path = self.path / BEST
        if path.is_file():
            return path
        return next(iter(sorted(self.path.glob("*best*.ckpt"))), None) or self.last()

    def steps(self) -> list[Path]:
        """Return the checkpoints besides the best, the oldest first."""
        return list(numbered(self.path, LAST, SUFFIX).values())


def read_state(path: Path) -> RunState:
    """Read a checkpoint of this runner's or of s3prl's own.

    Raises:
        CheckpointError: it is missing, damaged or something else.
    """
    values = read_values(path)
    if (
        not isinstance(values, Mapping)
        or not isinstance(values.get("Args"), argparse.Namespace)
        or not all(isinstance(values.get(part), Mapping) for part in ("Downstream", "Config"))
    ):
        raise CheckpointError(f"'{path}' is no checkpoint of a downstream run; give one with -e")
    return RunState(
        step=int(values.get("Step", 0)),
        config=values["Config"],
        arguments=dict(vars(values["Args"])),
        parts={k: values[k] for k in ("Upstream", "Featurizer", "Downstream") if k in values},
        optimizer=values.get("Optimizer") or {},
        scheduler=values.get("Scheduler") or {},
        scaler=values.get("Scaler") or {},
        scores=values.get("Scores") or {},
    )
