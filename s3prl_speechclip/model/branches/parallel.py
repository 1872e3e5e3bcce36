"""Parallel SpeechCLIP: one CLS token gathers the utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...encoders.clip import ClipEncoder
from ...structures import SpeechOutput
from .cls import frames_of, prepend_cls
from .keyword_head import unit


class ParallelBranch(nn.Module):
    """SpeechCLIP (arXiv 2210.00705), section 3.2.

    Args:
        attention: see `build_attention`.
        width: D.
        joint_width: E.
    """

    def __init__(self, attention: nn.Module, *, width: int, joint_width: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.attention = attention
        self.projection = nn.Linear(width, joint_width)

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        clip: ClipEncoder,
        *,
        scaling: bool = False,
        frames: bool = True,
    ) -> SpeechOutput:
        """Embed utterances.

        Args:
            features: mixed encoder states, (B, T, D).
            lengths: valid frames, (B,).
            clip: not used; every branch is called alike.
            scaling: not used.
            frames: False leaves the hidden states out, which saves most of the attention.
        """
        states = prepend_cls(self.cls, features, lengths)
        attended, layers = self.attention(*states, first=None if frames else 1)
        return SpeechOutput(
            hidden_states=frames_of(layers, 1) if frames else (),
            lengths=lengths,
            parallel=unit(self.projection(attended[:, 0])),
        )
