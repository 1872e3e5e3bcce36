"""The mini encoders' training loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.minis.training.loop import STATE_FILE, LoopConfig, train
from s3prl_speechclip.runtime.optimization import OptimizerConfig, SchedulerConfig
from s3prl_speechclip.structures import StepOutput


class Killed(Exception):
    """Stands for what ends a process at any moment."""


def module_and_losses(kill_at: int | None = None):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(step: int) -> StepOutput:
        if step == kill_at:
            raise Killed
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return StepOutput({"error": F.mse_loss(module(inputs)[:, 0], inputs.sum(1))})

    return module, losses


def config(steps: int = 40) -> LoopConfig:
    return LoopConfig(
        total_steps=steps,
        optimizer=OptimizerConfig(lr=0.03),
        scheduler=SchedulerConfig(warmup_steps=4),
        log_step=10,
        save_step=10,
        precision="fp32",
    )


def test_a_killed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    """Guards resuming against lost random state, moments or learning rate."""
    whole, losses = module_and_losses()
    train(whole, losses, config(), tmp_path / "whole")
    module, losses = module_and_losses(kill_at=27)
    with pytest.raises(Killed):
        train(module, losses, config(), tmp_path / "killed")
    module, losses = module_and_losses()
    train(module, losses, config(), tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_training_lowers_the_loss(tmp_path):
    """Guards against a loop that steps without learning."""
    module, losses = module_and_losses()
    module.eval()
    before = float(losses(99).loss.detach())
    train(module, losses, config(200), tmp_path)
    assert float(losses(99).loss.detach()) < before / 2


def test_a_checkpoint_of_another_module_is_named(tmp_path):
    """Guards a user who changes the recipe against a traceback."""
    torch.save({"module": {"other": torch.zeros(1)}}, tmp_path / STATE_FILE)
    module, losses = module_and_losses()
    with pytest.raises(CheckpointError, match="remove it"):
        train(module, losses, config(), tmp_path)
