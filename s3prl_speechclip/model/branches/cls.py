"""CLS tokens: learned positions in front of the frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...modules.padding import padding_mask


def prepend_cls(cls: Tensor, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Put CLS tokens before the frames of each utterance.

    Args:
        cls: (1, N, D).
        features: (B, T, D).
        lengths: valid frames, (B,).

    Returns:
        states (B, N + T, D) and their padding mask (B, N + T), True at padding.
    """
    states = torch.cat([cls.expand(len(features), -1, -1).to(features.dtype), features], 1)
    return states, padding_mask(lengths + cls.shape[1], states.shape[1])


def frames_of(layers: Sequence[Tensor], tokens: int) -> tuple[Tensor, ...]:
    """Leave the CLS tokens out of each layer's output, (B, N + T, D); gives (B, T, D) each."""
    return tuple(states[:, tokens:] for states in layers)
