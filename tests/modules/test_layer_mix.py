"""The mixture of hidden states."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from s3prl_speechclip.modules.layer_mix import LayerMix


@pytest.mark.parametrize("normalize", [False, True])
def test_it_is_the_softmax_weighted_sum(normalize: bool):
    """Guards the weights' softmax and the optional norm over the width."""
    mix = LayerMix(3, normalize=normalize)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
    states = [torch.randn(2, 4, 5) * 3 for _ in range(3)]
    stacked = torch.stack(states)
    if normalize:
        stacked = F.layer_norm(stacked, (5,))
    expected = torch.einsum("n,nbtd->btd", mix.weights.softmax(0), stacked)
    torch.testing.assert_close(mix(states), expected)


def test_states_of_several_types_mix_as_they_promote():
    """Guards mixed precision, where an encoder's first state may be bfloat16 and others not."""
    states = [torch.randn(2, 4, 5).bfloat16(), torch.randn(2, 4, 5)]
    mix = LayerMix(2)
    mixed = mix(states)
    mixed.sum().backward()
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, (states[0].float() + states[1]) / 2, atol=1e-2, rtol=1e-2)
    assert mix.weights.grad is not None


def test_it_starts_from_the_mean():
    states = [torch.full((1, 1, 1), float(i)) for i in range(4)]
    assert LayerMix(4)(states).item() == pytest.approx(1.5)


def test_a_state_more_or_less_is_an_error():
    """Guards against a checkpoint's weights being laid over another encoder's states."""
    with pytest.raises(ValueError):
        LayerMix(2)([torch.zeros(1, 1, 1)] * 3)
