"""Cosine vector quantisation of keywords to CLIP's BPE tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Quantized(NamedTuple):
    """Keywords as tokens."""

    embeddings: Tensor
    """(B, K, D) token embeddings; in training they carry the soft choice's gradient."""
    rows: Tensor
    """(B, K) int64, rows of the codebook."""


class CosineQuantizer(nn.Module):
    """Choose for each keyword the token of highest cosine (SpeechCLIP, arXiv 2210.00705, eq. 2-4).

    In training the choice is hard forward and softmax(cosine / temperature) backward, the
    straight-through estimator; in evaluation it is hard.

    Args:
        temperature: divides the cosines in the softmax.
        learn_temperature: make it a parameter.
        straight_through: False lets the soft mixture itself through in training.
        gumbel: sample the choice with Gumbel noise in training instead.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        learn_temperature: bool = False,
        straight_through: bool = True,
        gumbel: bool = False,
    ) -> None:
        super().__init__()
        value = torch.tensor([float(temperature)])
        self.temperature: Tensor
        if learn_temperature:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value)
        self.straight_through = straight_through
        self.gumbel = gumbel

    def forward(self, keywords: Tensor, codebook: Tensor, banned: Tensor) -> Quantized:
        """Quantise.

        Args:
            keywords: (B, K, D).
            codebook: token embeddings, (V, D).
            banned: rows never chosen (padding, start and end of text), (N,), int64.

        Returns:
            Embeddings and rows; see `Quantized`.
        """
        estimated = self.training and self.straight_through and not self.gumbel
        if estimated and not (codebook.requires_grad or self.temperature.requires_grad):
            return Quantized(*straight_through(keywords, codebook, banned, self.temperature))
        scores = cosine_scores(keywords, codebook)
        if self.training:
            scores = scores / self.temperature
        # After the division: a temperature that is learned would see 0 times infinity.
        scores = scores.index_fill(-1, banned, float("-inf"))
        rows = scores.argmax(-1)
        if not self.training:
            return Quantized(F.embedding(rows, codebook), rows)
        if self.gumbel:
            noise = -torch.empty_like(scores).exponential_().log() / self.temperature
            probabilities = (scores + noise).softmax(-1)
            rows = probabilities.argmax(-1)
        else:
            probabilities = scores.softmax(-1)
        soft = probabilities.to(codebook.dtype) @ codebook
        if not self.straight_through:
            return Quantized(soft, rows)
        return Quantized(F.embedding(rows, codebook) + (soft - soft.detach()), rows)


def straight_through(
    keywords: Tensor, codebook: Tensor, banned: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose hard forward and softly backward, from a codebook that is frozen.

    The value and the gradient of `CosineQuantizer`'s straight-through estimator, for half of its
    work: the soft mixture cancels out of the value and is never made, and under autocast the
    gradient is computed in autocast's type.

    Args:
        keywords: (B, K, D).
        codebook: (V, D), without gradient.
        banned: rows never chosen, (N,), int64.
        temperature: (1,), without gradient.

    Returns:
        Embeddings (B, K, D) of the codebook's type, and rows (B, K), int64.
    """
    device = keywords.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    with torch.autocast(device, enabled=False):
        queries = F.normalize(keywords.float(), dim=-1)
        return _StraightThrough.apply(queries, codebook, banned, temperature, low)


class _StraightThrough(torch.autograd.Function):
    """Tokens C, unit rows U, p = softmax(q U^T / t): value C[argmax p], gradient that of pC."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        codebook: Tensor,
        banned: Tensor,
        temperature: Tensor,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        unit = F.normalize(codebook.float(), dim=-1)
        scores = (queries @ unit.T).div_(temperature)
        scores.index_fill_(-1, banned, float("-inf"))
        rows = scores.argmax(-1)
        probabilities = scores.softmax(-1)
        ctx.save_for_backward(probabilities, unit, codebook, temperature)
        ctx.low = low
        ctx.mark_non_differentiable(rows)
        return F.embedding(rows, codebook), rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        probabilities, unit, codebook, temperature = ctx.saved_tensors
        low = ctx.low
        change = (gradient.to(low) @ codebook.to(low).T).float()
        change = torch._softmax_backward_data(change, probabilities, -1, torch.float32)
        change = (change.to(low) @ unit.to(low)).float() / temperature
        return change, None, None, None, None


def cosine_scores(keywords: Tensor, codebook: Tensor) -> Tensor:
    """Give the cosine of every keyword with every token.

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
    """Give the perplexity of the tokens chosen: how many are in effective use.

    Args:
        rows: chosen rows, any shape, int64.
        vocabulary_size: V.

    Returns:
        Scalar between 1 and V.
    """
    share = torch.bincount(rows.reshape(-1), minlength=vocabulary_size).float()
    share = share / share.sum().clamp_min(1)
    return torch.exp(-(share * (share + 1e-7).log()).sum())
