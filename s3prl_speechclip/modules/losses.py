"""Objectives: masked InfoNCE of speech and images, CIF's quantity loss, repeated keywords."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.config import ObjectiveConfig
from .padding import padding_mask

EVERY = slice(None)


class MaskedInfoNCE(nn.Module):
    """Masked contrastive loss in both directions (SpeechCLIP, arXiv 2210.00705, eq. 1).

    Rows that share a pair id are not negatives of each other; a row without negatives costs 0.

    Args:
        config: temperature, its bound, margin, decoupling.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        value = torch.tensor(math.log(1 / config.temperature))
        self.log_scale: Tensor
        if config.learn_temperature:
            self.log_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_scale", value)
        self.config = config

    def set_fixed_temperature(self) -> None:
        """Take the temperature of the configuration, unless it is learned."""
        if not self.config.learn_temperature:
            self.log_scale.fill_(math.log(1 / self.config.temperature))

    @property
    def logit_scale(self) -> Tensor:
        """Factor of the cosines."""
        scale = self.log_scale.exp()
        limit = self.config.max_logit_scale
        return scale.clamp_max(limit) if limit > 0 else scale

    def forward(
        self, speech: Tensor, images: Tensor, pair_ids: Tensor, rows: slice = EVERY
    ) -> Tensor:
        """Compute the loss.

        Args:
            speech: unit vectors, (B, E).
            images: unit vectors, (B, E), in the same order.
            pair_ids: (B,) int64.
            rows: the R rows of speech and of images whose loss is computed, against all B; with
                each process's own the logits take R x B values, not B x B.

        Returns:
            Scalar, the mean of both directions.
        """
        own = torch.eye(len(pair_ids), dtype=torch.bool, device=pair_ids.device)[rows]
        same = pair_ids[rows].unsqueeze(1) == pair_ids
        left_out = same if self.config.decoupled else same & ~own
        # A row without negatives keeps its positive, so that it contributes 0 and no gradient.
        left_out = left_out & ~(own & left_out.all(1, keepdim=True))
        costs = []
        for queries, candidates in ((speech, images), (images, speech)):
            with torch.autocast(speech.device.type, enabled=False):
                logits = queries[rows].float() @ candidates.float().T * self.logit_scale
            logits = logits - self.config.margin * own
            contrasted = logits.masked_fill(left_out, float("-inf"))
            costs.append((torch.logsumexp(contrasted, 1) - (logits * own).sum(1)).mean())
        return (costs[0] + costs[1]) / 2


def quantity_loss(quantity: Tensor, target: Tensor) -> Tensor:
    """Compare CIF's quantity with its target (CIF, arXiv 1905.11235, section 3.2).

    Args:
        quantity: sum of alpha, (B,).
        target: number of keywords, (B,).

    Returns:
        Scalar, mean absolute difference in keywords.
    """
    return F.l1_loss(quantity.float(), target.float())


def repetition_loss(probabilities: Tensor, lengths: Tensor) -> Tensor:
    """Compute which share of the pairs of keywords of one utterance are the same token.

    Hard forward, with the quantiser's softmax backward, as its straight-through estimator: of two
    keywords each becomes less likely to choose the other's token, whether they are alike or not.

    Args:
        probabilities: the quantiser's soft choices, (B, K, V).
        lengths: keywords per utterance, (B,).

    Returns:
        Scalar, 0 to 1, mean over utterances; one without pairs counts 0.
    """
    count = probabilities.shape[1]
    rows = probabilities.argmax(-1)
    of_other = probabilities.gather(2, rows.unsqueeze(1).expand(-1, count, -1))
    soft = of_other + of_other.transpose(1, 2)
    same = (rows.unsqueeze(1) == rows.unsqueeze(2)).to(soft.dtype)
    valid = ~padding_mask(lengths, count)
    pairs = valid.unsqueeze(1) & valid.unsqueeze(2)
    pairs = pairs & ~torch.eye(count, dtype=torch.bool, device=pairs.device)
    costs = ((same + (soft - soft.detach())) * pairs).sum((1, 2))
    return (costs / pairs.sum((1, 2)).clamp_min(1)).mean()
