"""Hybrid SpeechCLIP: a parallel CLS token and keywords share one attention layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...encoders.clip import ClipEncoder
from ...structures import SpeechOutput
from .cls import frames_of, prepend_cls
from .keyword_head import KeywordHead, fixed_lengths, unit
from .segmenter import CifSegmenter


class HybridBranch(nn.Module):
    """Hybrid SpeechCLIP (arXiv 2402.06959, section 2.3): keywords from CLS tokens.

    Args:
        attention: see `build_attention`.
        head: what names keywords.
        width: D.
        joint_width: E.
        number: K, keywords per utterance.
    """

    def __init__(
        self,
        attention: nn.Module,
        head: KeywordHead,
        *,
        width: int,
        joint_width: int,
        number: int,
    ) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1 + number, width))
        self.attention = attention
        self.projection = nn.Linear(width, joint_width)
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
        """Embed utterances both ways; arguments as in `ParallelBranch`."""
        tokens = self.cls.shape[1]
        states = prepend_cls(self.cls, features, lengths)
        attended, layers = self.attention(*states, first=None if frames else tokens)
        whole, heard = attended[:, 0], attended[:, 1:tokens]
        count = fixed_lengths(len(heard), tokens - 1, lengths)
        keywords, embedding = self.head(heard, count, clip)
        return SpeechOutput(
            hidden_states=frames_of(layers, tokens) if frames else (),
            lengths=lengths,
            parallel=unit(self.projection(whole)),
            cascaded=embedding,
            keywords=keywords,
        )


class HybridCifBranch(nn.Module):
    """Hybrid SpeechCLIP+ (arXiv 2402.06959, section 2.3): keywords from CIF.

    Args:
        attention: see `build_attention`.
        head: what names keywords.
        segmenter: what fires them.
        width: D.
        joint_width: E.
    """

    def __init__(
        self,
        attention: nn.Module,
        head: KeywordHead,
        segmenter: CifSegmenter,
        *,
        width: int,
        joint_width: int,
    ) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.attention = attention
        self.projection = nn.Linear(width, joint_width)
        self.segmenter = segmenter
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
        """Embed utterances both ways; arguments as in `CifCascadedBranch`."""
        attended, layers = self.attention(*prepend_cls(self.cls, features, lengths))
        whole, heard = attended[:, 0], attended[:, 1:]
        segments = self.segmenter(heard, lengths, scaling=scaling)
        keywords, embedding = self.head(segments.fired, segments.lengths, clip)
        return SpeechOutput(
            hidden_states=frames_of(layers, 1) if frames else (),
            lengths=lengths,
            parallel=unit(self.projection(whole)),
            cascaded=embedding,
            keywords=replace(keywords, spans=segments.spans),
            firing=segments.firing,
        )
