"""Continuous integrate-and-fire: from frames to a variable number of keywords.

CIF (arXiv 1905.11235), section 3, as SpeechCLIP+ (arXiv 2402.06959) uses it. Each frame t carries a
weight alpha_t in [0, 1]; their running sum c_t integrates, and each time that it passes another
multiple of the threshold a keyword fires. A frame that straddles a firing gives its weight to the
keyword before and the keyword after in proportion.

Written as dense weights: with c the cumulated alpha and beta the threshold, frame t gives keyword k

    w_kt = max(0, min(c_t, (k + 1) beta) - max(c_{t-1}, k beta))

which is the overlap of the two intervals (c_{t-1}, c_t] and (k beta, (k + 1) beta].

Shapes: B batch, T frames, K keywords, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..structures import HOP, SAMPLE_RATE
from .dropout import Dropout
from .padding import padding_mask

SCALING_EPS = 1e-5  # keeps floor(sum / threshold) at the target after scaling


class FiringWeights(NamedTuple):
    """How much each frame gives each keyword."""

    weights: Tensor
    """(B, K, T), zero beyond `lengths` unless what has not fired is kept."""
    lengths: Tensor
    """(B,) int64, keywords fired, at least 1."""
    cumulated: Tensor
    """(B, T) running sum of alpha in units of the threshold, after any scaling."""


def firing_weights(
    alpha: Tensor,
    target_lengths: Tensor | None = None,
    threshold: float = 1.0,
    tail_threshold: float = 0.5,
    max_fires: int = 75,
    keep_tail: bool = True,
    keep_unfired: bool = False,
) -> FiringWeights:
    """Weigh each frame for each keyword.

    Args:
        alpha: weights of the frames, (B, T), at least 0, zero on padding.
        target_lengths: scale alpha so that this many keywords fire, (B,), or None.
        threshold: integrated weight of a keyword.
        tail_threshold: a remainder of at least this much fires as well, scaled up to a whole
            keyword (the factor carries no gradient).
        max_fires: keywords at most.
        keep_tail: False drops the remainder, as in training.
        keep_unfired: leave what has not fired in the slots beyond an utterance's keywords, as the
            official code does in training, where its batch norm sees it.

    Returns:
        The weights; an utterance whose alpha never reaches the threshold fires once, with what
        there is.
    """
    total = alpha.sum(1)
    if target_lengths is not None:
        wanted = threshold * target_lengths.to(alpha.dtype) + SCALING_EPS
        # Alpha that is zero all over stays so, with a gradient that is finite.
        alpha = alpha * (wanted / total.masked_fill(total == 0, 1.0)).unsqueeze(1)
        total = alpha.sum(1)
    fires = (total / threshold).floor().clamp(1, max_fires).long()

    right = alpha.cumsum(1)
    left = F.pad(right, (1, -1))
    slots = int(fires.max()) + (1 if keep_tail else 0)
    starts = torch.arange(slots, device=alpha.device, dtype=alpha.dtype).view(1, -1, 1) * threshold
    weights = torch.minimum(right.unsqueeze(1), starts + threshold)
    weights = (weights - torch.maximum(left.unsqueeze(1), starts)).clamp_min(0)

    lengths = fires
    if keep_tail:
        tail_slot = fires.view(-1, 1, 1)
        remainder = weights.sum(2).gather(1, fires.unsqueeze(1)).squeeze(1)
        fires_too = remainder.detach() >= tail_threshold
        factor = torch.where(fires_too, threshold / remainder.detach(), torch.ones_like(remainder))
        slot_of = torch.arange(slots, device=alpha.device).view(1, -1, 1)
        weights = torch.where(slot_of == tail_slot, weights * factor.view(-1, 1, 1), weights)
        lengths = (fires + fires_too).clamp_max(max_fires)
        weights = weights[:, : int(lengths.max())]
    if not keep_unfired:
        unfired = padding_mask(lengths, weights.shape[1]).unsqueeze(2)
        weights = weights.masked_fill(unfired, 0.0)
    return FiringWeights(weights, lengths, right / threshold)


def integrate_and_fire(
    features: Tensor,
    alpha: Tensor,
    target_lengths: Tensor | None = None,
    threshold: float = 1.0,
    tail_threshold: float = 0.5,
    max_fires: int = 75,
) -> tuple[Tensor, Tensor]:
    """Integrate frames into keywords (CIF, arXiv 1905.11235, section 3).

    Args:
        features: (B, T, D).
        alpha: weights of the frames, (B, T), at least 0, zero on padding.
        target_lengths: keywords to fire, (B,); alpha is scaled to them and the remainder dropped.
            None: as many as alpha says, and a remainder of at least `tail_threshold` fires too.
        threshold: integrated weight of a keyword.
        tail_threshold: see above.
        max_fires: keywords at most.

    Returns:
        fired: (B, K, D), zero beyond `lengths`; K is the longest of `lengths`.
        lengths: (B,) int64, at least 1 each.

    Raises:
        ValueError: shapes that do not go together.
    """
    if features.ndim != 3 or alpha.shape != features.shape[:2]:
        raise ValueError(
            f"features must be (B, T, D) and alpha (B, T), found {tuple(features.shape)} "
            f"and {tuple(alpha.shape)}"
        )
    weights, lengths, _ = firing_weights(
        alpha,
        target_lengths,
        threshold=threshold,
        tail_threshold=tail_threshold,
        max_fires=max_fires,
        keep_tail=target_lengths is None,
    )
    return weights.to(features.dtype) @ features, lengths


def firing_spans(firing: FiringWeights, frame_lengths: Tensor) -> Tensor:
    """Say when each keyword was spoken.

    A keyword lasts from the firing before it to its own, interpolated inside the frame; one fired
    from the remainder lasts to the end of the utterance.

    Args:
        firing: what `firing_weights` gave.
        frame_lengths: valid frames, (B,).

    Returns:
        (B, K, 2) float32, onset and offset in seconds, zero beyond the fired keywords.
    """
    _, lengths, cumulated = firing
    keywords = int(lengths.max())
    cumulated = cumulated.detach().contiguous()
    ordinal = torch.arange(1, keywords + 1, device=cumulated.device, dtype=cumulated.dtype)
    targets = ordinal.expand(len(lengths), keywords).contiguous()
    frame = torch.searchsorted(cumulated, targets)
    last = (frame_lengths - 1).unsqueeze(1)
    inside = frame <= last
    frame = torch.minimum(frame, last)
    reached = cumulated.gather(1, frame)
    before = torch.where(frame > 0, cumulated.gather(1, (frame - 1).clamp_min(0)), 0.0)
    part = ((targets - before) / (reached - before).clamp_min(1e-9)).clamp(0, 1)
    offsets = torch.where(inside, frame + part, frame_lengths.unsqueeze(1).to(part.dtype))
    onsets = torch.cat([torch.zeros_like(offsets[:, :1]), offsets[:, :-1]], 1)
    spans = torch.stack([onsets, offsets], 2).float() * (HOP / SAMPLE_RATE)
    return spans.masked_fill(padding_mask(lengths, keywords).unsqueeze(2), 0.0)


class CifWeights(nn.Module):
    """The network that gives each frame its weight: convolution, dropout, ReLU, sigmoid unit.

    Args:
        width: D.
        conv_width: frames that a convolution sees.
        conv_layers: number of convolutions.
        dropout: after each convolution and before the unit.
        read_padding: let the last frame's convolution see what lies on padding, as the official
            code does; otherwise zeros, as for an utterance alone.
    """

    def __init__(
        self,
        *,
        width: int,
        conv_width: int,
        conv_layers: int,
        dropout: float,
        read_padding: bool = False,
    ) -> None:
        super().__init__()
        self.read_padding = read_padding
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, conv_width, padding=conv_width // 2) for _ in range(conv_layers)
        )
        self.dropout = Dropout(dropout)
        self.unit = nn.Linear(width, 1)

    def forward(self, features: Tensor, padding: Tensor) -> Tensor:
        """Weigh the frames.

        Args:
            features: (B, T, D).
            padding: (B, T) bool, True at padding.

        Returns:
            alpha: (B, T) float32 in [0, 1], zero on padding.
        """
        if not self.read_padding:
            features = features.masked_fill(padding.unsqueeze(2), 0.0)
        states = features.transpose(1, 2)
        for convolution in self.convolutions:
            states = self.dropout(convolution(states)).relu()
            if not self.read_padding:
                states = states.masked_fill(padding.unsqueeze(1), 0.0)
        logits = self.unit(self.dropout(states.transpose(1, 2))).squeeze(-1)
        return logits.float().sigmoid().masked_fill(padding, 0.0)
