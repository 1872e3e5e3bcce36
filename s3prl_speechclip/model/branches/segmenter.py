"""CIF inside a model: weigh frames, fire keywords, say when each was spoken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...modules.cif import CifWeights, firing_spans, firing_weights
from ...modules.padding import padding_mask
from ...structures import Firing


@dataclass(frozen=True)
class Segments:
    """Fired keywords of a batch."""

    fired: Tensor
    """(B, K, D), zero beyond `lengths`."""
    lengths: Tensor
    """(B,) int64."""
    spans: Tensor
    """(B, K, 2) seconds."""
    firing: Firing


class CifSegmenter(nn.Module):
    """Segment frames into keywords (SpeechCLIP+, arXiv 2402.06959, section 2.2).

    In training the remainder after the last firing is dropped, and while `scaling` holds alpha is
    scaled so that the target number fires; in evaluation alpha decides alone and a large enough
    remainder fires too.

    Args:
        width: D.
        conv_width, conv_layers, dropout, read_padding: see `CifWeights`.
        threshold, tail_threshold, max_fires: see `firing_weights`.
        frames_per_keyword: the target is frames / this, rounded to even at halves.
    """

    def __init__(
        self,
        *,
        width: int,
        conv_width: int,
        conv_layers: int,
        dropout: float,
        threshold: float,
        tail_threshold: float,
        max_fires: int,
        frames_per_keyword: float,
        read_padding: bool,
    ) -> None:
        super().__init__()
        self.read_padding = read_padding
        self.weights = CifWeights(
            width=width,
            conv_width=conv_width,
            conv_layers=conv_layers,
            dropout=dropout,
            read_padding=read_padding,
        )
        self.threshold = threshold
        self.tail_threshold = tail_threshold
        self.max_fires = max_fires
        self.frames_per_keyword = frames_per_keyword

    def forward(self, frames: Tensor, lengths: Tensor, *, scaling: bool) -> Segments:
        """Segment.

        Args:
            frames: (B, T, D).
            lengths: valid frames, (B,).
            scaling: scale alpha to the target in training.
        """
        alpha = self.weights(frames, padding_mask(lengths, frames.shape[1]))
        target = (lengths / self.frames_per_keyword).round().long()
        firing = firing_weights(
            alpha,
            target if self.training and scaling else None,
            threshold=self.threshold,
            tail_threshold=self.tail_threshold,
            max_fires=self.max_fires,
            keep_tail=not self.training,
            keep_unfired=self.training and self.read_padding,
        )
        with torch.autocast(frames.device.type, enabled=False):
            fired = (firing.weights @ frames.float()).to(frames.dtype)
        return Segments(
            fired=fired,
            lengths=firing.lengths,
            spans=firing_spans(firing, lengths),
            firing=Firing(alpha=alpha, quantity=alpha.sum(1), target=target),
        )
