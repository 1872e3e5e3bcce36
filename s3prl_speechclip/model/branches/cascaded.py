"""Cascaded SpeechCLIP: a fixed number of CLS tokens become keywords."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...encoders.clip import ClipEncoder
from ...structures import SpeechOutput
from .cls import frames_of, prepend_cls
from .keyword_head import KeywordHead, fixed_lengths


class CascadedBranch(nn.Module):
    """SpeechCLIP (arXiv 2210.00705), section 3.3.

    Args:
        attention: see `build_attention`.
        head: what names keywords.
        width: D.
        number: K, keywords per utterance.
    """

    def __init__(self, attention: nn.Module, head: KeywordHead, *, width: int, number: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, number, width))
        self.attention = attention
        self.head = head

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        clip: ClipEncoder,
        *,
        scaling: bool = False,
        frames: bool = True,
    ) -> SpeechOutput:
        """Name keywords and embed utterances by them; arguments as in `ParallelBranch`."""
        number = self.cls.shape[1]
        states = prepend_cls(self.cls, features, lengths)
        attended, layers = self.attention(*states, first=None if frames else number)
        heard = attended[:, :number]
        keywords, embedding = self.head(heard, fixed_lengths(len(heard), number, lengths), clip)
        return SpeechOutput(
            hidden_states=frames_of(layers, number) if frames else (),
            lengths=lengths,
            cascaded=embedding,
            keywords=keywords,
        )
