"""The learned mixture of an encoder's hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerMix(nn.Module):
    """Softmax-weighted sum of hidden states, as in SUPERB (arXiv 2105.01051, section 3).

    Args:
        layers: number of hidden states.
        normalize: layer-normalise each state over its width first, without affine parameters.
    """

    def __init__(self, layers: int, *, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Mix the hidden states, (B, T, D) each; returns (B, T, D)."""
        if self.normalize:
            hidden_states = [F.layer_norm(state, state.shape[-1:]) for state in hidden_states]
        weights = self.weights.softmax(0)
        mixed = hidden_states[0] * weights[0]
        for weight, state in zip(weights[1:], hidden_states[1:], strict=True):
            mixed = mixed + state * weight
        return mixed
