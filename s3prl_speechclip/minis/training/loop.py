"""The training loop of the mini encoders: one device, resumed where it was killed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ...errors import CheckpointError
from ...runtime.devices import build_fabric
from ...runtime.log import ScalarLog, draw_curves
from ...runtime.optimization import (
    OptimizerConfig,
    SchedulerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)
from ...runtime.randomness import random_state, restore_random_state
from ...runtime.run_folder import atomic_write
from ...structures import StepOutput

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    total_steps: int
    """Optimiser steps."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    gradient_clipping: float = 1.0
    """Norm that gradients are clipped to; 0: never."""
    log_step: int = 50
    """Steps between lines of the log."""
    save_step: int = 500
    """Steps between checkpoints."""
    precision: str = "auto"
    """Precision of `runtime.devices.build_fabric`."""


def train(
    module: nn.Module,
    losses: Callable[[int], StepOutput],
    config: LoopConfig,
    folder: Path,
    device: str = "auto",
    seed: int = 0,
) -> float:
    """Train a module to the last step, or resume its training in the folder.

    Args:
        module: module whose parameters with a gradient are trained; it is left on the device.
        losses: objective of a step, which reads a function of the step alone, so that an
            interrupted run sees the same as an uninterrupted one.
        config: configuration of the run.
        folder: place of the log and the checkpoint; made where it is missing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        seed: seed of dropout.

    Returns:
        Seconds that training took, over all interruptions.

    Raises:
        CheckpointError: the folder holds something else, or cannot be written.
    """
    fabric = build_fabric(device, config.precision)
    fabric.launch()
    fabric.to_device(module)
    optimizer = build_optimizer(config.optimizer, module.parameters())
    fabric.seed_everything(seed, verbose=False)
    path = folder / STATE_FILE
    step, seconds = 0, 0.0
    if path.is_file():
        step, seconds = _resume(path, module, optimizer)
        logger.info("resuming from step %d", step)
    folder.mkdir(parents=True, exist_ok=True)
    log = ScalarLog(folder, step)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    module.train()
    started = time.perf_counter()
    with tqdm(total=config.total_steps, initial=step, unit="step", dynamic_ncols=True) as bar:
        while step < config.total_steps:
            rate = learning_rate(config.scheduler, config.optimizer.lr, step, config.total_steps)
            set_learning_rate(optimizer, rate)
            with fabric.autocast():
                output = losses(step)
            output.loss.backward()
            if config.gradient_clipping > 0:
                nn.utils.clip_grad_norm_(parameters, config.gradient_clipping)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            bar.update()
            if step % config.log_step == 0 or step == config.total_steps:
                values = {"loss": float(output.loss.detach()), "lr": rate, **output.report}
                values |= {f"loss/{name}": float(v.detach()) for name, v in output.losses.items()}
                log.add(step, values)
                bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if step % config.save_step == 0 or step == config.total_steps:
                spent = seconds + time.perf_counter() - started
                _save(path, module, optimizer, step, spent)
    log.close()
    draw_curves(folder)
    module.eval()
    return seconds + time.perf_counter() - started


def _save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    buffers = {name for name, _ in module.named_buffers()}
    state = {
        "module": {k: v for k, v in module.state_dict().items() if k in trained | buffers},
        "optimizer": optimizer.state_dict(),
        "random": random_state(),
        "step": step,
        "seconds": seconds,
    }
    with atomic_write(path) as partial:
        torch.save(state, partial)


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _, unexpected = module.load_state_dict(state["module"], strict=False)
        if unexpected:
            raise ValueError(f"unknown weights {unexpected[:3]}")
        optimizer.load_state_dict(state["optimizer"])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"'{path}' is of another run: {reason}; remove it") from error
    restore_random_state(state["random"])
    return int(state["step"]), float(state["seconds"])
