"""The learned mixture of an encoder's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class LayerMix(nn.Module):
    """Softmax-weighted sum of hidden states, as in SUPERB (arXiv 2105.01051, section 3).

    Args:
        layers: number of hidden states.
        normalize: layer-normalise each state over its width first, without affine parameters.
    """

    def __init__(self, *, layers: int, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Mix the states.

        Args:
            hidden_states: one (B, T, D) per layer.

        Returns:
            (B, T, D).
        """
        weights = self.weights.softmax(0)
        if self.normalize:
            hidden_states = [F.layer_norm(state, state.shape[-1:]) for state in hidden_states]
        # Mixed precision is left to the rules of promotion below.
        if all(s.dtype == torch.float32 and not s.requires_grad for s in hidden_states):
            return _FrozenMix.apply(weights, *hidden_states)
        mixed = hidden_states[0] * weights[0]
        for weight, state in zip(weights[1:], hidden_states[1:], strict=True):
            mixed = mixed + state * weight
        return mixed


class _FrozenMix(torch.autograd.Function):
    """The sum over frozen states, float32, without a product in memory for each of them."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *states: Tensor) -> Tensor:
        ctx.save_for_backward(*states)
        mixed = states[0] * weights[0]
        for weight, state in zip(weights[1:], states[1:], strict=True):
            mixed.addcmul_(state, weight)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        product = torch.empty_like(gradient)
        shares = [torch.mul(gradient, state, out=product).sum() for state in ctx.saved_tensors]
        return torch.stack(shares), *[None] * len(shares)
