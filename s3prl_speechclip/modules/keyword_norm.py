"""Batch norm that brings keywords to the statistics of CLIP's token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

MOMENTUM = 0.1  # share of a batch in the running statistics
EPS = 1e-5  # added to the variance


class KeywordNorm(nn.Module):
    """Normalise keywords, then scale and shift them as the token embeddings are distributed.

    SpeechCLIP (arXiv 2210.00705), section 3.3. Statistics are over batch and, where one norm serves
    all keywords, over keywords; over the processes' whole batch in distributed training.

    Args:
        width: D.
        slots: K norms of their own for a fixed number of keywords, or None: one for all.
        learnable: train scale and shift.
        count_padding: let padded keywords into the statistics, as the official code does.
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
            valid = None if padding is None or self.count_padding else ~padding
            rows = len(wide) * (1 if self.weight.ndim == 2 else wide.shape[1])
            if valid is None and rows > 1 and _processes() == 1:
                return self._plain(wide).to(keywords.dtype)
            mean, variance = self._batch_statistics(wide, valid)
        else:
            mean, variance = self.running_mean, self.running_var
        normal = (wide - mean) * torch.rsqrt(variance + EPS) * self.weight + self.bias
        return normal.to(keywords.dtype)

    def _plain(self, keywords: Tensor) -> Tensor:
        """Normalise by PyTorch's own kernel, where every keyword of this process counts."""
        rows = keywords.reshape(-1, self.weight.numel())
        normal = F.batch_norm(
            rows,
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            training=True,
            momentum=MOMENTUM,
            eps=EPS,
        )
        return normal.view_as(keywords)

    def _batch_statistics(self, keywords: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        over = (0, 1) if self.weight.ndim == 1 else (0,)
        counted = torch.ones_like(keywords[..., :1])
        if valid is not None:
            counted = valid.unsqueeze(-1).to(keywords.dtype)
        count = _over_processes(counted.sum(over)).clamp_min(1)
        mean = _over_processes((keywords * counted).sum(over)) / count
        variance = _over_processes(((keywords - mean).square() * counted).sum(over)) / count
        with torch.no_grad():
            unbiased = variance * (count / (count - 1).clamp_min(1))
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(unbiased, MOMENTUM)
        return mean, variance


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _over_processes(total: Tensor) -> Tensor:
    """Sum over the processes of a distributed run, with gradient."""
    return all_reduce(total) if _processes() > 1 else total
