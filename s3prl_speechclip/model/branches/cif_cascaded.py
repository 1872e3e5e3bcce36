"""Cascaded SpeechCLIP+: CIF segments the frames into a variable number of keywords."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ...encoders.clip import ClipEncoder
from ...modules.padding import padding_mask
from ...structures import SpeechOutput
from .keyword_head import KeywordHead
from .segmenter import CifSegmenter


class CifCascadedBranch(nn.Module):
    """SpeechCLIP+ (arXiv 2402.06959), section 2.2.

    Args:
        attention: see `build_attention`.
        head: what names keywords.
        segmenter: what fires them.
    """

    def __init__(self, attention: nn.Module, head: KeywordHead, segmenter: CifSegmenter) -> None:
        super().__init__()
        self.attention = attention
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
        """Name keywords and embed utterances by them.

        Args:
            features: mixed encoder states, (B, T, D).
            lengths: valid frames, (B,).
            clip: whose tokens and text tower are used.
            scaling: scale alpha to the target quantity in training.
            frames: False leaves the hidden states out.
        """
        heard, layers = self.attention(features, padding_mask(lengths, features.shape[1]))
        segments = self.segmenter(heard, lengths, scaling=scaling)
        keywords, embedding = self.head(segments.fired, segments.lengths, clip)
        return SpeechOutput(
            hidden_states=layers if frames else (),
            lengths=lengths,
            cascaded=embedding,
            keywords=replace(keywords, spans=segments.spans),
            firing=segments.firing,
        )
