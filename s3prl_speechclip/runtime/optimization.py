"""Optimiser and learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # `--help` reads the configurations, and needs no torch
    from torch import nn, optim


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    name: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    weight_decay: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    name: Literal["linear_warmup_decay", "constant"] = "linear_warmup_decay"
    warmup_steps: int = 5_000
    final_lr: float = 1e-8
    """Learning rate at the last step."""


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Build the optimiser of the parameters that require a gradient."""
    from torch import optim

    kinds: dict[str, type[optim.Adam]] = {"adam": optim.Adam, "adamw": optim.AdamW}
    return kinds[config.name](
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: SchedulerConfig, peak: float, step: int, total_steps: int) -> float:
    """Return the learning rate of a step.

    Linear from 0 to `peak` over the warm-up, then linear to `final_lr` at the last step
    (SpeechCLIP, arXiv 2210.00705, section 4.1).

    Args:
        config: the schedule.
        peak: `OptimizerConfig.lr`.
        step: steps taken before this one.
        total_steps: steps of the whole run.
    """
    if config.name == "constant":
        return peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    left = (total_steps - step) / max(1, total_steps - config.warmup_steps)
    return config.final_lr + (peak - config.final_lr) * max(0.0, left)


def set_learning_rate(optimizer: optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
