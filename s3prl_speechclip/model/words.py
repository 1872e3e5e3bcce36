"""The branch of `speechclip_words`: one keyword for each segment of the frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoders.clip import ClipEncoder
from ..modules.attention import build_attention
from ..modules.cif import weighted_sum
from ..modules.padding import padding_mask
from ..modules.segments import WordSegmenter
from ..structures import SpeechFeatures, SpeechOutput
from .branch import KeywordHead
from .config import ModelConfig


class Branch(nn.Module):
    """Segment, pool, attend, name ("Leveraging Cascaded-SpeechCLIP", one CLIP token a word).

    The attention is between the pooled segments and not, as in the other branches, between frames:
    a step of the mini preset then takes a fraction of the time, and it has the same weights, so
    that those of a trained hybrid serve as a start.

    Args:
        config: configuration of the whole model.
        width: D of the speech encoder.
        clip: frozen CLIP, provides the width of its token embeddings.

    Attributes:
        segmenter: frames to segments.
        pooling: score of each frame in its segment; None: all count alike.
        attention: of segments.
        head: segments to tokens and their embedding.
    """

    cls = None

    def __init__(self, config: ModelConfig, width: int, clip: ClipEncoder) -> None:
        super().__init__()
        self.segmenter = WordSegmenter(config, width, clip.context - 2)
        self.pooling = nn.Linear(width, 1) if config.words.pooling == "attention" else None
        self.attention = build_attention(width, config.attention, encoder=False)
        self.head = KeywordHead(config, width, clip.token_width)

    def forward(
        self,
        features: Tensor,
        speech: SpeechFeatures,
        clip: ClipEncoder,
        *,
        scaling: bool = False,
        frames: bool = True,
    ) -> SpeechOutput:
        """Embed utterances by the tokens of their segments; arguments as in `branch.Branch`.

        Returns:
            Hidden states are the mixed ones: the branch has no frames of its own.
        """
        segments = self.segmenter(features, speech, scaling=scaling)
        weights, counts = segments.weights, segments.counts
        if self.pooling is not None:
            scores = self.pooling(features).squeeze(2).float()
            weights = weights * (scores - scores.amax(1, keepdim=True)).exp().unsqueeze(1)
        weights = weights / weights.sum(2, keepdim=True).clamp_min(1e-6)
        pooled = weighted_sum(weights, features)
        attended, _ = self.attention(pooled, padding_mask(counts, pooled.shape[1]))
        keywords, embedding = self.head(attended, counts, clip, spans=segments.spans)
        return SpeechOutput(
            hidden_states=(features,) if frames else (),
            lengths=speech.lengths,
            cascaded=embedding,
            keywords=keywords,
            firing=segments.firing,
        )

    @torch.no_grad()
    def cls_attention(self, features: Tensor, lengths: Tensor) -> None:
        """Return None: there are no CLS tokens."""
