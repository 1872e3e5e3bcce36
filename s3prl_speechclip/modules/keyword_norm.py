"""Batch norm that brings keywords to the statistics of CLIP's token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

MOMENTUM = 0.1  # share of a batch in the running statistics
EPS = 1e-5  # added to the variance


class KeywordNorm(nn.Module):
    """Normalise keywords, then scale and shift them as the token embeddings are distributed.

    SpeechCLIP (arXiv 2210.00705), section 3.3. Statistics are over the batch and, with one norm for
    all keywords, over keywords; over the batches of all processes in distributed training.

    Args:
        width: D.
        slots: K, for a norm per keyword; None: one norm for all.
        learnable: whether scale and shift are trained.
        count_padding: whether padded keywords count in the statistics, as in the official code.
    """

    def __init__(
        self, *, width: int, slots: int | None, learnable: bool, count_padding: bool = False
    ) -> None:
        super().__init__()
        shape = (width,) if slots is None else (slots, width)
        self.count_padding = count_padding
        self.weight = nn.Parameter(torch.ones(shape), requires_grad=learnable)
        self.bias = nn.Parameter(torch.zeros(shape), requires_grad=learnable)
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    @torch.no_grad()
    def start_from(self, codebook: Tensor, scale: float = 1.0) -> None:
        """Set scale and shift to standard deviation and mean of the token embeddings, (V, D)."""
        self.weight.copy_((codebook.std(0) * scale).expand_as(self.weight))
        self.bias.copy_(codebook.mean(0).expand_as(self.bias))

    def forward(self, keywords: Tensor, padding: Tensor | None = None) -> Tensor:
        """Normalise.

        Args:
            keywords: (B, K, D).
            padding: (B, K) bool, True beyond an utterance's keywords, or None.

        Returns:
            (B, K, D).
        """
        wide = keywords.float()
        if self.training:
            counted = torch.ones_like(wide[..., :1])
            if padding is not None and not self.count_padding:
                counted = counted.masked_fill(padding.unsqueeze(-1), 0.0)
            mean, variance = self._batch_statistics(wide, counted)
        else:
            mean, variance = self.running_mean, self.running_var
        normal = (wide - mean) * torch.rsqrt(variance + EPS) * self.weight + self.bias
        return normal.to(keywords.dtype)

    def _batch_statistics(self, keywords: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and variance, and move the running ones; `counted` (B, K, 1) is 0 or 1."""
        over = (0, 1) if self.weight.ndim == 1 else (0,)
        count = _over_processes(counted.sum(over)).clamp_min(1)
        mean = _over_processes((keywords * counted).sum(over)) / count
        variance = _over_processes(((keywords - mean).square() * counted).sum(over)) / count
        with torch.no_grad():
            unbiased = variance * (count / (count - 1).clamp_min(1))
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(unbiased, MOMENTUM)
        return mean, variance


def _over_processes(total: Tensor) -> Tensor:
    """Sum over the processes of a distributed run, with gradient."""
    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return all_reduce(total) if distributed else total
