"""Optimiser and learning rate."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from .config import OptimizerConfig, SchedulerConfig


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Make the optimiser of the parameters that learn."""
    kinds: dict[str, type[optim.Adam]] = {"adam": optim.Adam, "adamw": optim.AdamW}
    beta1, beta2 = config.betas
    return kinds[config.name](
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=config.lr,
        betas=(beta1, beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: SchedulerConfig, peak: float, step: int, total_steps: int) -> float:
    """Give the learning rate of a step.

    Linear from 0 to `peak` over the warm-up, then linear to `final_lr` at the last step
    (SpeechCLIP, arXiv 2210.00705, section 4.1).

    Args:
        config: the schedule.
        peak: optimiser's configured rate.
        step: counted from 0.
        total_steps: of the run.
    """
    if config.name == "constant":
        return peak
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    left = (total_steps - step) / max(1, total_steps - config.warmup_steps)
    return config.final_lr + (peak - config.final_lr) * max(0.0, left)
