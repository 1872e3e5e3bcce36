"""Dropout from random bytes; the leading positions alone are tested in test_attention.py."""

from __future__ import annotations

import pytest
import torch

from s3prl_speechclip.modules.fast_dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(p: float) -> None:
    """Guards the mask: every byte of the random words must be uniform, and values are scaled."""
    torch.manual_seed(0)
    found = Dropout(p)(torch.ones(1_000, 803))
    dropped = found == 0
    assert float(dropped.float().mean()) == pytest.approx(p, abs=4e-3)
    assert float(found.mean()) == pytest.approx(1, abs=1e-2)
    assert len(found.unique()) == 2
    by_byte = dropped.flatten()[: 8 * 100_000].view(-1, 8).float().mean(0)
    assert by_byte.numpy() == pytest.approx(p, abs=8e-3)


def test_the_gradient_is_masked_alike() -> None:
    values = torch.randn(40, 30, requires_grad=True)
    found = Dropout(0.5)(values)
    found.sum().backward()
    assert torch.equal(values.grad == 0, found == 0)


@pytest.mark.parametrize("p", [0.0, 0.001, 1.0])
def test_ends_are_those_of_pytorch(p: float) -> None:
    """Guards against a scale of infinity, and probabilities too small for a byte."""
    found = Dropout(p)(torch.ones(500))
    assert found.isfinite().all()
    assert bool((found == 0).all()) == (p == 1)


def test_evaluation_drops_nothing_and_a_seed_gives_one_mask() -> None:
    """Guards evaluation, and the exact resumption of an interrupted run."""
    values = torch.randn(9, 11).to(torch.bfloat16)
    dropout = Dropout(0.3)
    assert torch.equal(dropout.eval()(values), values)
    dropout.train()
    torch.manual_seed(3)
    first = dropout(values)
    torch.manual_seed(3)
    assert torch.equal(dropout(values), first) and first.dtype == torch.bfloat16
