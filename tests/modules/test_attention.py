"""The branches' attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from s3prl_speechclip.model.config import AttentionConfig
from s3prl_speechclip.modules.attention import build_attention

WIDTH = 8


def build(kind: str, layers: int = 1, norm_first: bool = False) -> nn.Module:
    torch.manual_seed(0)
    config = AttentionConfig(
        kind=kind, heads=2, layers=layers, feedforward=16, dropout=0.5, norm_first=norm_first
    )
    return build_attention(WIDTH, config, encoder=False).eval()


@pytest.mark.parametrize("kind", ["norm", "encoder"])
@pytest.mark.parametrize("gradients", [False, True])
def test_padding_changes_no_valid_position(kind: str, gradients: bool):
    """Guards the mask, in PyTorch's fast path without gradients and in its plain one."""
    attention = build(kind)
    states = torch.randn(2, 7, WIDTH)
    padding = torch.arange(7).unsqueeze(0) >= torch.tensor([[7], [4]])
    with torch.set_grad_enabled(gradients):
        batched = attention(states, padding).output[1, :4]
        alone = attention(states[1:, :4], padding[1:, :4]).output[0]
    torch.testing.assert_close(batched, alone, atol=1e-5, rtol=0)


def test_the_encoder_keeps_each_layers_output_before_the_final_norm():
    """Guards the hidden states that the official upstream gives: the norm is not in them."""
    attention = build("encoder", layers=3)
    nn.init.normal_(attention.norm.bias)
    output, layers = attention(torch.randn(1, 5, WIDTH), torch.zeros(1, 5, dtype=torch.bool))
    assert len(layers) == 3
    torch.testing.assert_close(attention.norm(layers[-1]), output)
    assert not torch.allclose(layers[-1], output)


def test_the_encoder_is_pytorchs():
    """Guards the order of layers and norm against `nn.TransformerEncoder`."""
    own = build("encoder", layers=2)
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 16, dropout=0.5, activation="gelu", batch_first=True
    )
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH)).eval()
    theirs.load_state_dict(own.state_dict())
    states, padding = torch.randn(2, 5, WIDTH), torch.zeros(2, 5, dtype=torch.bool)
    torch.testing.assert_close(own(states, padding).output, theirs(states))


def test_weights_are_those_that_the_output_is_made_with():
    """Guards the attention maps that analyses draw."""
    attention = build("norm")
    states = torch.randn(2, 5, WIDTH)
    padding = torch.arange(5).unsqueeze(0) >= torch.tensor([[5], [3]])
    weights = attention.last_weights(states, padding)
    assert weights.shape == (2, 2, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5))
    assert not weights[1, :, :, 3:].any()


@pytest.mark.parametrize(
    ("kind", "layers", "norm_first"),
    [("norm", 1, False), ("encoder", 1, False), ("encoder", 2, False), ("encoder", 2, True)],
)
@pytest.mark.parametrize("gradients", [False, True])
def test_first_positions_alone_are_those_of_all(
    kind: str, layers: int, norm_first: bool, gradients: bool
):
    """Guards the short cut of training, which asks for CLS positions only."""
    attention = build(kind, layers, norm_first)
    states = torch.randn(2, 7, WIDTH)
    padding = torch.arange(7).unsqueeze(0) >= torch.tensor([[7], [4]])
    with torch.set_grad_enabled(gradients):
        whole = attention(states, padding).output[:, :3]
        first = attention(states, padding, first=3).output
    torch.testing.assert_close(first, whole, atol=1e-6, rtol=1e-5)
