"""The learning rate of a step."""

from __future__ import annotations

import pytest

from s3prl_speechclip.runtime.optimization import SchedulerConfig, learning_rate

CONFIG = SchedulerConfig(warmup_steps=5_000, final_lr=1e-8)


def test_warm_up_ends_at_the_peak() -> None:
    """Guards against a warm-up that is off by its last step."""
    assert learning_rate(CONFIG, 1e-4, 4_999, 50_000) == pytest.approx(1e-4)
    assert learning_rate(CONFIG, 1e-4, 2_499, 50_000) == pytest.approx(0.5e-4)


def test_decay_ends_at_the_final_rate() -> None:
    """Guards against a decay towards zero, or one that never arrives."""
    assert learning_rate(CONFIG, 1e-4, 50_000, 50_000) == pytest.approx(1e-8)
    assert learning_rate(CONFIG, 1e-4, 27_500, 50_000) == pytest.approx(0.5e-4, rel=1e-3)


def test_the_first_step_learns() -> None:
    """Guards against a wasted step at rate zero."""
    assert learning_rate(CONFIG, 1e-4, 0, 50_000) > 0
