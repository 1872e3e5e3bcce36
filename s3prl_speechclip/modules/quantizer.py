"""Cosine vector quantisation of keywords to CLIP's BPE tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.config import KeywordConfig


class Quantized(NamedTuple):
    """Keywords as tokens."""

    embeddings: Tensor
    """(B, K, D) token embeddings; in training they carry the soft choice's gradient."""
    rows: Tensor
    """(B, K) int64, rows of the codebook."""
    probabilities: Tensor | None = None
    """(B, K, V) float32, the soft choice, in training."""


class CosineQuantizer(nn.Module):
    """Choose for each keyword the token of highest cosine (SpeechCLIP, arXiv 2210.00705, eq. 2-4).

    In training the choice is hard forward and softmax(cosine / temperature) backward, the
    straight-through estimator; in evaluation it is hard.

    Args:
        config: temperature, straight-through estimator or soft mixture, Gumbel noise.
    """

    def __init__(self, config: KeywordConfig) -> None:
        super().__init__()
        value = torch.tensor([float(config.temperature)])
        self.temperature: Tensor
        if config.learn_temperature:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value)
        self.config = config

    def set_fixed_temperature(self) -> None:
        """Take the temperature of the configuration, unless it is learned."""
        if not self.config.learn_temperature:
            self.temperature.fill_(self.config.temperature)

    def forward(self, keywords: Tensor, codebook: Tensor, banned: Tensor) -> Quantized:
        """Quantise.

        Args:
            keywords: (B, K, D).
            codebook: token embeddings, (V, D).
            banned: rows never chosen (padding, start and end of text), (N,), int64.

        Returns:
            Embeddings and rows; see `Quantized`.
        """
        scores = cosine_scores(keywords, codebook)
        if self.training:
            scores = scores / self.temperature
        # After the division: a temperature that is learned would see 0 times infinity.
        scores = scores.index_fill(-1, banned, float("-inf"))
        if not self.training:
            rows = scores.argmax(-1)
            return Quantized(F.embedding(rows, codebook), rows)
        if self.config.gumbel:
            scores = scores - torch.empty_like(scores).exponential_().log() / self.temperature
        rows = scores.argmax(-1)
        probabilities = scores.softmax(-1)
        soft = probabilities.to(codebook.dtype) @ codebook
        if not self.config.straight_through:
            return Quantized(soft, rows, probabilities)
        hard = F.embedding(rows, codebook) + (soft - soft.detach())
        return Quantized(hard, rows, probabilities)


def cosine_scores(keywords: Tensor, codebook: Tensor) -> Tensor:
    """Compute the cosine of every keyword with every token.

    Args:
        keywords: (..., D).
        codebook: (V, D).

    Returns:
        (..., V) float32.
    """
    # In bf16 many tokens would tie.
    with torch.autocast(keywords.device.type, enabled=False):
        return F.normalize(keywords.float(), dim=-1) @ F.normalize(codebook.float(), dim=-1).T


def code_perplexity(rows: Tensor, vocabulary_size: int) -> Tensor:
    """Compute the perplexity of chosen rows, any shape: from 1 to V in effective use."""
    share = torch.bincount(rows.reshape(-1), minlength=vocabulary_size).float()
    share = share / share.sum().clamp_min(1)
    return torch.exp(-(share * (share + 1e-7).log()).sum())
