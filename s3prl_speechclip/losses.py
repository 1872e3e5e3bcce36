"""Objectives: masked InfoNCE between recordings and images, and CIF's quantity loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedInfoNCE(nn.Module):
    """Contrast recordings with images in both directions (SpeechCLIP, arXiv 2210.00705, eq. 1).

    Rows that share a pair id are not negatives of each other.

    Args:
        temperature: divides the cosines; where it is learned, where learning starts.
        learn_temperature: learn the log of the scale that multiplies.
        max_logit_scale: the learned scale is held at or below this; 0: free.
        margin: taken from the positives' scores.
        decoupled: leave the positive out of the denominator (arXiv 2110.06848).
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        max_logit_scale: float = 100.0,
        margin: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        super().__init__()
        value = torch.tensor(math.log(1 / temperature))
        self.log_scale: Tensor
        if learn_temperature:
            self.log_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_scale", value)
        self.max_logit_scale = max_logit_scale
        self.margin = margin
        self.decoupled = decoupled

    @property
    def logit_scale(self) -> Tensor:
        """What cosines are multiplied by."""
        scale = self.log_scale.exp()
        if self.max_logit_scale > 0:
            scale = scale.clamp_max(self.max_logit_scale)
        return scale

    def forward(self, speech: Tensor, images: Tensor, pair_ids: Tensor) -> Tensor:
        """Contrast.

        Args:
            speech: unit vectors, (B, E).
            images: unit vectors, (B, E), in the same order.
            pair_ids: (B,) int64.

        Returns:
            Scalar, the mean of both directions.
        """
        with torch.autocast(speech.device.type, enabled=False):
            logits = speech.float() @ images.float().T * self.logit_scale
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits - self.margin * own
        positives = logits.diagonal()
        same = pair_ids.unsqueeze(0) == pair_ids.unsqueeze(1)
        left_out = same if self.decoupled else same & ~own
        contrasted = logits.masked_fill(left_out, float("-inf"))
        to_images = torch.logsumexp(contrasted, 1) - positives
        to_speech = torch.logsumexp(contrasted, 0) - positives
        return (to_images.mean() + to_speech.mean()) / 2


def quantity_loss(quantity: Tensor, target: Tensor) -> Tensor:
    """Ask CIF for as many keywords as the target says (CIF, arXiv 1905.11235, section 3.2).

    Args:
        quantity: sum of alpha, (B,).
        target: (B,).

    Returns:
        Scalar, mean absolute difference in keywords.
    """
    return F.l1_loss(quantity.float(), target.float())
