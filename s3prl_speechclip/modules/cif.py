"""Continuous integrate-and-fire: from frames to a variable number of keywords.

CIF (arXiv 1905.11235), section 3, as used in SpeechCLIP+ (arXiv 2402.06959). Each frame t has a
weight alpha_t in [0, 1]; their running sum c_t integrates, and each time that it passes another
multiple of the threshold a keyword fires. The weight of a frame that straddles a firing is split
between the keyword before and the keyword after.

Written as dense weights, with c the cumulated alpha and beta the threshold, frame t contributes to
keyword k

    w_kt = max(0, min(c_t, (k + 1) beta) - max(c_{t-1}, k beta))

which is the overlap of the two intervals (c_{t-1}, c_t] and (k beta, (k + 1) beta].

Shapes: B batch, T frames, K keywords, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.config import CifConfig
from ..structures import HOP, SAMPLE_RATE
from .fast_dropout import Dropout
from .padding import padding_mask

SCALING_EPS = 1e-5  # keeps floor(sum / threshold) at the target after scaling


def scale_to_target(alpha: Tensor, target_lengths: Tensor, threshold: float = 1.0) -> Tensor:
    """Scale alpha so that a given number of keywords fires (CIF, section 3.2, scaling strategy).

    Args:
        alpha: frame weights, (B, T).
        target_lengths: keywords to fire, (B,).
        threshold: integrated weight of a keyword.

    Returns:
        (B, T); an alpha that is zero everywhere stays so, with a finite gradient.
    """
    total = alpha.sum(1)
    wanted = threshold * target_lengths.to(alpha.dtype) + SCALING_EPS
    return alpha * (wanted / total.masked_fill(total == 0, 1.0)).unsqueeze(1)


def firing_weights(
    alpha: Tensor,
    *,
    threshold: float = 1.0,
    tail_threshold: float = 0.5,
    max_fires: int = 75,
    keep_tail: bool = True,
    keep_unfired: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute how much each frame contributes to each keyword; arguments as `integrate_and_fire`.

    Returns:
        weights: (B, K, T), zero beyond `lengths` unless what has not fired is kept.
        lengths: (B,) int64, keywords fired, at least 1: an utterance whose alpha never reaches the
            threshold fires once, with what there is.
    """
    fires = (alpha.sum(1) / threshold).floor().clamp(1, max_fires).long()
    right = alpha.cumsum(1)
    left = F.pad(right, (1, -1))
    slots = int(fires.max()) + (1 if keep_tail else 0)
    starts = torch.arange(slots, device=alpha.device, dtype=alpha.dtype).view(1, -1, 1) * threshold
    weights = torch.minimum(right.unsqueeze(1), starts + threshold)
    weights = (weights - torch.maximum(left.unsqueeze(1), starts)).clamp_min(0)

    lengths = fires
    if keep_tail:
        remainder = weights.sum(2).gather(1, fires.unsqueeze(1)).squeeze(1)
        fires_too = remainder.detach() >= tail_threshold
        factor = torch.where(fires_too, threshold / remainder.detach(), torch.ones_like(remainder))
        is_tail = torch.arange(slots, device=alpha.device).view(1, -1, 1) == fires.view(-1, 1, 1)
        weights = torch.where(is_tail, weights * factor.view(-1, 1, 1), weights)
        lengths = (fires + fires_too).clamp_max(max_fires)
        weights = weights[:, : int(lengths.max())]
    if not keep_unfired:
        unfired = padding_mask(lengths, weights.shape[1]).unsqueeze(2)
        weights = weights.masked_fill(unfired, 0.0)
    return weights, lengths


def integrate_and_fire(
    features: Tensor,
    alpha: Tensor,
    target_lengths: Tensor | None = None,
    threshold: float = 1.0,
    tail_threshold: float = 0.5,
    max_fires: int = 75,
    *,
    keep_tail: bool | None = None,
    keep_unfired: bool = False,
) -> tuple[Tensor, Tensor]:
    """Integrate frames into keywords (CIF, arXiv 1905.11235, section 3).

    Args:
        features: frames, (B, T, D).
        alpha: frame weights, (B, T), at least 0, zero on padding.
        target_lengths: keywords to fire, (B,); alpha is scaled to them. None: as many as alpha
            decides.
        threshold: integrated weight of a keyword.
        tail_threshold: smallest remainder that fires as well, scaled up to a whole keyword (the
            factor carries no gradient).
        max_fires: maximum number of keywords.
        keep_tail: whether a remainder may fire; None: only without `target_lengths`.
        keep_unfired: whether the slots beyond an utterance's keywords keep what has not fired, as
            in the official code in training, where its batch norm counts it.

    Returns:
        fired: (B, K, D), zero beyond `lengths`; K is the longest of `lengths`.
        lengths: (B,) int64, at least 1 each.

    Raises:
        ValueError: the shapes do not match.
    """
    if features.ndim != 3 or alpha.shape != features.shape[:2]:
        raise ValueError(
            f"features must be (B, T, D) and alpha (B, T), found {tuple(features.shape)} "
            f"and {tuple(alpha.shape)}"
        )
    if target_lengths is not None:
        alpha = scale_to_target(alpha, target_lengths, threshold)
    weights, lengths = firing_weights(
        alpha,
        threshold=threshold,
        tail_threshold=tail_threshold,
        max_fires=max_fires,
        keep_tail=target_lengths is None if keep_tail is None else keep_tail,
        keep_unfired=keep_unfired,
    )
    return weighted_sum(weights, features), lengths


def weighted_sum(weights: Tensor, features: Tensor) -> Tensor:
    """Sum frames (B, T, D) by their weights (B, K, T) in each keyword; returns (B, K, D)."""
    # Not in bf16, which would round the shares of the frames that straddle a firing.
    wide = torch.promote_types(weights.dtype, features.dtype)
    with torch.autocast(features.device.type, enabled=False):
        summed = weights.to(wide) @ features.to(wide)
    return summed.to(features.dtype)


def firing_spans(
    alpha: Tensor, lengths: Tensor, frame_lengths: Tensor, threshold: float = 1.0
) -> Tensor:
    """Compute when each keyword was spoken.

    A keyword lasts from the previous firing to its own, interpolated inside the frame; one fired
    from the remainder lasts to the end of the utterance.

    Args:
        alpha: frame weights, (B, T), scaled where the firing was.
        lengths: keywords fired, (B,).
        frame_lengths: valid frames, (B,).
        threshold: integrated weight of a keyword.

    Returns:
        (B, K, 2) float32, onset and offset in seconds, zero beyond the fired keywords.
    """
    keywords = int(lengths.max())
    cumulated = (alpha.detach().cumsum(1) / threshold).contiguous()
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
    """Predict alpha from the frames: convolution, dropout, ReLU, sigmoid unit.

    Args:
        width: D.
        config: convolutions and dropout.
        read_padding: whether the last frame's convolution reads what lies on padding, as in the
            official code; otherwise zeros, as for an utterance alone.
    """

    def __init__(self, width: int, config: CifConfig, *, read_padding: bool = False) -> None:
        super().__init__()
        self.read_padding = read_padding
        size = config.conv_width
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, size, padding=size // 2) for _ in range(config.conv_layers)
        )
        self.dropout = Dropout(config.dropout)
        self.unit = nn.Linear(width, 1)
        if config.initial_alpha is not None:
            nn.init.constant_(self.unit.bias, float(torch.tensor(config.initial_alpha).logit()))

    def forward(self, features: Tensor, padding: Tensor) -> Tensor:
        """Predict the frames' weights.

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
