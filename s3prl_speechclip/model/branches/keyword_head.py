"""From keyword vectors to BPE tokens to an utterance embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.clip import ClipEncoder
from ...modules.keyword_norm import KeywordNorm
from ...modules.padding import padding_mask
from ...modules.quantizer import CosineQuantizer
from ...structures import Keywords


class KeywordHead(nn.Module):
    """Project keywords to CLIP's token space, normalise, quantise, read them with CLIP.

    SpeechCLIP (arXiv 2210.00705), section 3.3.

    Args:
        width: D of the frames.
        token_width: D of CLIP's token embeddings.
        slots: fixed number of keywords, or None for a variable one.
        projection: widths of hidden layers; empty: one linear layer.
        projection_dropout: after each hidden layer.
        norm: `per_keyword`, `shared` (always so for a variable number) or `none`.
        norm_learnable: see `KeywordNorm`.
        count_padding: see `KeywordNorm`.
        temperature, learn_temperature, straight_through, gumbel: see `CosineQuantizer`.
        banned_rows: rows of the codebook that no keyword takes; empty: the special tokens'.
    """

    def __init__(
        self,
        *,
        width: int,
        token_width: int,
        slots: int | None,
        projection: Sequence[int],
        projection_dropout: float,
        norm: str,
        norm_learnable: bool,
        count_padding: bool,
        temperature: float,
        learn_temperature: bool,
        straight_through: bool,
        gumbel: bool,
        banned_rows: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.projection = _projection(width, projection, token_width, projection_dropout)
        self.norm = (
            None
            if norm == "none"
            else KeywordNorm(
                width=token_width,
                slots=slots if norm == "per_keyword" else None,
                learnable=norm_learnable,
                count_padding=count_padding,
            )
        )
        self.quantizer = CosineQuantizer(
            temperature=temperature,
            learn_temperature=learn_temperature,
            straight_through=straight_through,
            gumbel=gumbel,
        )
        self._banned: Tensor
        self.register_buffer("_banned", torch.tensor(banned_rows).long(), persistent=False)

    def forward(self, heard: Tensor, lengths: Tensor, clip: ClipEncoder) -> tuple[Keywords, Tensor]:
        """Name keywords and embed the utterance by them.

        Args:
            heard: one vector a keyword, (B, K, D).
            lengths: keywords per utterance, (B,).
            clip: whose tokens and text tower are used.

        Returns:
            The keywords, and unit vectors (B, E).
        """
        beyond = padding_mask(lengths, heard.shape[1])
        queries = self.projection(heard)
        if self.norm is not None:
            queries = self.norm(queries, beyond)
        banned = self._banned if len(self._banned) else clip.banned_rows
        quantized = self.quantizer(queries, clip.codebook(), banned)
        keywords = Keywords(
            embeddings=quantized.embeddings.masked_fill(beyond.unsqueeze(2), 0.0),
            token_ids=clip.original_ids(quantized.rows).masked_fill(beyond, 0),
            lengths=lengths,
            queries=queries,
        )
        return keywords, clip.encode_keywords(keywords.embeddings, lengths)


def _projection(width: int, hidden: Sequence[int], out: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for inner in hidden:
        layers += [nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout)]
        width = inner
    layers.append(nn.Linear(width, out))
    return nn.Sequential(*layers)


def unit(vectors: Tensor) -> Tensor:
    """Give unit vectors in float32, (..., E)."""
    return F.normalize(vectors.float(), dim=-1)


def fixed_lengths(batch: int, number: int, like: Tensor) -> Tensor:
    """Say that every utterance has the same number of keywords, (B,) int64."""
    return torch.full((batch,), number, dtype=torch.int64, device=like.device)
