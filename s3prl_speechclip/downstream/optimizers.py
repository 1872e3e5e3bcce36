"""s3prl's optimisers, schedules and masking, by the sections of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from ..errors import ConfigError

UNUSABLE = (KeyError, NameError, TypeError, AttributeError, ValueError, AssertionError)


def build_optimizer(config: Mapping[str, Any], module: nn.Module, steps: int) -> optim.Optimizer:
    """Make the optimiser of the section `optimizer`.

    Raises:
        ConfigError: the section is missing, or s3prl cannot use it.
    """
    from s3prl.optimizers import get_optimizer

    try:
        optimizer: optim.Optimizer = get_optimizer([module], steps, config["optimizer"])
    except UNUSABLE as error:
        raise _unusable("optimizer", error) from error
    return optimizer


def build_scheduler(config: Mapping[str, Any], optimizer: optim.Optimizer, steps: int) -> Any:
    """Make the schedule of the section `scheduler`; None where there is none.

    Raises:
        ConfigError: s3prl cannot use the section.
    """
    if not config.get("scheduler"):
        return None
    from s3prl.schedulers import get_scheduler

    try:
        return get_scheduler(optimizer, steps, config["scheduler"])
    except UNUSABLE as error:
        raise _unusable("scheduler", error) from error


def build_specaug(config: Mapping[str, Any]) -> nn.Module | None:
    """Make the masking of features of the section `specaug`; None where there is none.

    Raises:
        ConfigError: s3prl cannot use the section.
    """
    if not config.get("specaug"):
        return None
    from s3prl.downstream.specaug import SpecAug

    try:
        specaug: nn.Module = SpecAug(**config["specaug"])
    except UNUSABLE as error:
        raise _unusable("specaug", error) from error
    return specaug


def _unusable(section: str, error: Exception) -> ConfigError:
    return ConfigError(f"the section {section} cannot be used: {type(error).__name__}: {error}")
