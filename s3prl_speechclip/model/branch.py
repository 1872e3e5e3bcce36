"""The branch: from mixed encoder states to utterance embeddings and keywords.

One class for the papers' variants. `VARIANTS` says which parts a variant has: an embedding from a
CLS token of its own, and keywords from CLS tokens or from CIF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.clip import ClipEncoder
from ..modules.attention import build_attention
from ..modules.cif import weighted_sum
from ..modules.keyword_norm import KeywordNorm
from ..modules.padding import padding_mask
from ..modules.quantizer import CosineQuantizer
from ..modules.segments import CifSegmenter
from ..structures import Keywords, SpeechFeatures, SpeechOutput
from .config import ModelConfig, find_variant


class Branch(nn.Module):
    """SpeechCLIP (arXiv 2210.00705), section 3; SpeechCLIP+ (arXiv 2402.06959), section 2.

    CLS tokens, if any, are put in front of the frames; all of them go through one attention. The
    parallel embedding is a projection of the first token. Keywords are the other tokens, or
    segments of the frames.

    Args:
        config: configuration of the whole model.
        width: D of the speech encoder.
        clip: frozen CLIP, provides the widths of its token embeddings and of its joint space.

    Attributes:
        cls: (1, N, D) CLS tokens, the parallel one first; None in `speechclip_plus`.
        attention: of tokens and frames.
        projection: parallel token to the joint space; None without a parallel embedding.
        segmenter: CIF; None where keywords come from CLS tokens.
        head: keyword vectors to tokens and their embedding; None without keywords.
    """

    cls: nn.Parameter | None
    projection: nn.Linear | None
    segmenter: CifSegmenter | None
    head: KeywordHead | None

    def __init__(self, config: ModelConfig, width: int, clip: ClipEncoder) -> None:
        super().__init__()
        variant = find_variant(config.variant)
        from_cls = variant.keywords == "cls"
        tokens = int(variant.parallel) + (config.keywords.number if from_cls else 0)
        # Initial weights depend on the order in which parts are made, state dicts on the order in
        # which they are assigned.
        attention = build_attention(width, config.attention, encoder=variant.keywords is None)
        head = KeywordHead(config, width, clip.token_width) if variant.keywords else None
        segmenter = (
            CifSegmenter(config, width, clip.context - 2) if variant.keywords == "cif" else None
        )
        self.cls = nn.Parameter(torch.randn(1, tokens, width)) if tokens else None
        self.attention = attention
        self.projection = nn.Linear(width, clip.joint_width) if variant.parallel else None
        self.segmenter = segmenter
        self.head = head

    @property
    def tokens(self) -> int:
        """Number of CLS tokens."""
        return 0 if self.cls is None else self.cls.shape[1]

    def forward(
        self,
        features: Tensor,
        speech: SpeechFeatures,
        clip: ClipEncoder,
        *,
        scaling: bool = False,
        frames: bool = True,
    ) -> SpeechOutput:
        """Embed utterances and choose their keywords.

        Args:
            features: mixed encoder states, (B, T, D).
            speech: what they are mixed of, and its valid frames.
            clip: frozen CLIP, provides token embeddings and the text encoder.
            scaling: whether CIF scales alpha to the target quantity in training.
            frames: whether to return the hidden states of the frames; without them, CLS tokens
                alone go through the last layer.

        Returns:
            Hidden states are the branch's own, one per layer of the attention.
        """
        tokens, lengths = self.tokens, speech.lengths
        states, padding = self.with_cls(features, lengths)
        tokens_only = not frames and self.segmenter is None
        attended, layers = self.attention(states, padding, tokens if tokens_only else None)
        output = SpeechOutput(
            hidden_states=tuple(layer[:, tokens:] for layer in layers) if frames else (),
            lengths=lengths,
        )
        if self.projection is not None:
            output = replace(output, parallel=unit(self.projection(attended[:, 0])))
        if self.head is None:
            return output
        spans = None
        if self.segmenter is None:
            vectors = attended[:, int(self.projection is not None) : tokens]
            counts = torch.full_like(lengths, vectors.shape[1])
        else:
            states = attended[:, tokens:]
            weights, counts, spans, firing = self.segmenter(states, lengths, scaling=scaling)
            vectors = weighted_sum(weights, states)
            output = replace(output, firing=firing)
        keywords, embedding = self.head(vectors, counts, clip, spans=spans)
        return replace(output, cascaded=embedding, keywords=keywords)

    def with_cls(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Put the CLS tokens in front of the frames: (B, N + T, D), with the padding mask."""
        if self.cls is not None:
            cls = self.cls.expand(len(features), -1, -1).to(features.dtype)
            features = torch.cat([cls, features], 1)
        return features, padding_mask(lengths + self.tokens, features.shape[1])

    @torch.no_grad()
    def cls_attention(self, features: Tensor, lengths: Tensor) -> Tensor | None:
        """Compute the last layer's attention of CLS tokens to frames, (B, N, heads, T), if any."""
        if self.cls is None:
            return None
        weights = self.attention.last_weights(*self.with_cls(features, lengths))
        return weights[:, :, : self.tokens, self.tokens :].transpose(1, 2)


def build_branch(config: ModelConfig, width: int, clip: ClipEncoder) -> Branch:
    """Build the branch of a variant, from the module that its row in `VARIANTS` names."""
    module = import_module(f".{find_variant(config.variant).branch}", __package__)
    branch: Branch = module.Branch(config, width, clip)
    return branch


class KeywordHead(nn.Module):
    """Project keywords to CLIP's token space, normalise, quantise, encode them with CLIP.

    SpeechCLIP (arXiv 2210.00705), section 3.3.

    Args:
        config: configuration of the whole model.
        width: D of the frames.
        token_width: D of CLIP's token embeddings.
    """

    def __init__(self, config: ModelConfig, width: int, token_width: int) -> None:
        super().__init__()
        keywords = config.keywords
        self.projection = _projection(
            width, keywords.projection, token_width, keywords.projection_dropout
        )
        own = keywords.norm == "per_keyword" and find_variant(config.variant).keywords == "cls"
        self.norm = (
            None
            if keywords.norm == "none"
            else KeywordNorm(
                width=token_width,
                slots=keywords.number if own else None,
                learnable=keywords.norm_learnable,
                count_padding=not config.batch_invariant,
            )
        )
        self.quantizer = CosineQuantizer(keywords)
        self.banned_rows: Tensor
        banned = torch.tensor(keywords.banned_rows).long()
        self.register_buffer("banned_rows", banned, persistent=False)

    def forward(
        self, vectors: Tensor, lengths: Tensor, clip: ClipEncoder, *, spans: Tensor | None = None
    ) -> tuple[Keywords, Tensor]:
        """Choose tokens and embed the utterance by them.

        Args:
            vectors: one vector per keyword, (B, K, D).
            lengths: keywords per utterance, (B,).
            clip: frozen CLIP, provides token embeddings and the text encoder.
            spans: when each keyword was spoken, (B, K, 2) seconds.

        Returns:
            The keywords, and unit vectors (B, E).
        """
        beyond = padding_mask(lengths, vectors.shape[1])
        queries = self.projection(vectors)
        if self.norm is not None:
            queries = self.norm(queries, beyond)
        banned = self.banned_rows if len(self.banned_rows) else clip.banned_rows
        quantized = self.quantizer(queries, clip.codebook(), banned)
        keywords = Keywords(
            embeddings=quantized.embeddings.masked_fill(beyond.unsqueeze(2), 0.0),
            token_ids=clip.original_ids(quantized.rows).masked_fill(beyond, 0),
            lengths=lengths,
            spans=spans,
            queries=queries,
            probabilities=quantized.probabilities,
        )
        return keywords, clip.encode_keywords(keywords.embeddings, lengths)


def _projection(width: int, hidden: Sequence[int], out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner in hidden:
        layers += [nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout)]
        width = inner
    return nn.Sequential(*layers, nn.Linear(width, out))


def unit(vectors: Tensor) -> Tensor:
    """Return unit vectors in float32, (..., E)."""
    return F.normalize(vectors.float(), dim=-1)
