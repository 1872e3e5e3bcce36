"""Devices and precision by name."""

from __future__ import annotations

import pytest
from lightning.fabric.strategies import DDPStrategy

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.runtime.devices import WAIT, build_fabric, find_device, loss_scale_state


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99"])
def test_an_unknown_or_missing_device_is_an_error(name: str) -> None:
    """Guards against a run on another device than the one that was named."""
    with pytest.raises(ConfigError, match="--device"):
        find_device(name)


@pytest.mark.parametrize(
    ("precision", "plugin"), [("fp32", "32-true"), ("bf16", "bf16-mixed"), ("auto", None)]
)
def test_precision_is_fabrics(precision: str, plugin: str | None) -> None:
    """Guards against a precision that is accepted and not used; auto is never fp16 on a CPU."""
    fabric = build_fabric("cpu", precision)
    found = fabric._precision.precision
    assert found == plugin or (plugin is None and found in ("32-true", "bf16-mixed"))
    assert loss_scale_state(fabric) == {}


def test_fp16_on_a_cpu_is_refused() -> None:
    """Guards against a training that underflows, since a CPU has no loss scale."""
    with pytest.raises(ConfigError, match="needs a GPU"):
        build_fabric("cpu", "fp16")


def test_processes_wait_for_the_one_that_fills_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a long computation of features against torch's timeout of half an hour or less."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    strategy = build_fabric("cpu", "fp32").strategy
    assert isinstance(strategy, DDPStrategy) and strategy._timeout == WAIT
