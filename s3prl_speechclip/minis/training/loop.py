"""The training loop of the mini encoders: one device, resumed where it was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ...errors import CheckpointError, first_line
from ...runtime.devices import build_fabric
from ...runtime.distributed import StopSignal
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
LOG_STEP = 20
SAVE_STEP = 100
CLIPPING = 1.0  # norm of the gradient


def train(
    module: nn.Module,
    losses: Callable[[int], StepOutput],
    total_steps: int,
    optimizer: OptimizerConfig,
    scheduler: SchedulerConfig,
    folder: Path,
    *,
    precision: str = "auto",
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Train a module to the last step, or resume its training in the folder.

    Args:
        module: module whose parameters with a gradient are trained; it is left on the device.
        losses: objective of a step, which reads a function of the step alone, so that an
            interrupted run sees the same as an uninterrupted one.
        total_steps: number of optimiser steps.
        optimizer: configuration of Adam.
        scheduler: configuration of the learning rate.
        folder: place of the log and the checkpoint; made where it is missing.
        precision: precision of the forward pass, see `build_fabric`.
        device: device, see `find_device`.
        seed: seed of dropout.

    Raises:
        CheckpointError: the folder holds another run, or cannot be written.
        KeyboardInterrupt: SIGTERM or SIGINT arrived; the checkpoint of the last step is written.
    """
    fabric = build_fabric(device, precision)
    fabric.launch()
    fabric.to_device(module)
    adam = build_optimizer(optimizer, module.parameters())
    fabric.seed_everything(seed, verbose=False)
    path = folder / STATE_FILE
    step = _resume(path, module, adam) if path.is_file() else 0
    folder.mkdir(parents=True, exist_ok=True)
    log = ScalarLog(folder, step)

    def save() -> None:
        weights = {"module": module.state_dict(), "optimizer": adam.state_dict()}
        with atomic_write(path) as partial:
            torch.save({**weights, "random": random_state(), "step": step}, partial)

    module.train()
    bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True)
    with bar, StopSignal(fabric) as stop:
        while step < total_steps and not stop.requested():
            rate = learning_rate(scheduler, optimizer.lr, step, total_steps)
            set_learning_rate(adam, rate)
            with fabric.autocast():
                output = losses(step)
            output.loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIPPING)
            adam.step()
            adam.zero_grad()
            step += 1
            bar.update()
            if step % LOG_STEP == 0 or step == total_steps:
                values = {f"loss/{name}": float(v.detach()) for name, v in output.losses.items()}
                log.add(step, {"loss": float(output.loss.detach()), **values, **output.report})
            if step % SAVE_STEP == 0:
                save()
    if step % SAVE_STEP:
        save()
    log.close()
    if step < total_steps:
        raise KeyboardInterrupt
    draw_curves(folder)
    module.eval()


def _resume(path: Path, module: nn.Module, adam: torch.optim.Optimizer) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["module"])
        adam.load_state_dict(state["optimizer"])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = first_line(error)
        raise CheckpointError(f"'{path}' is of another run: {reason}; remove it") from error
    restore_random_state(state["random"])
    logger.info("resuming from step %d", state["step"])
    return int(state["step"])
