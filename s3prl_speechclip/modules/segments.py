"""Segmenters: from frames to the segments that become keywords.

Each returns `Segments`: how much of every frame belongs to every segment. CIF's shares carry a
gradient to its weights; the others' segments are spans of whole time, which are not trained.

Shapes: B batch, T frames, K segments, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.config import ModelConfig
from ..structures import HOP, SAMPLE_RATE, Firing, SpeechFeatures
from .cif import CifWeights, firing_spans, firing_weights, scale_to_target
from .padding import padding_mask

FRAME = HOP / SAMPLE_RATE  # seconds


class Segments(NamedTuple):
    """Segments of a batch's frames."""

    weights: Tensor
    """(B, K, T) share of each frame in each segment, zero beyond `counts`."""
    counts: Tensor
    """(B,) int64, segments per utterance, at least 1."""
    spans: Tensor
    """(B, K, 2) float32, onset and offset in seconds, zero beyond `counts`."""
    firing: Firing | None = None


class CifSegmenter(nn.Module):
    """Segment frames by integrate-and-fire (SpeechCLIP+, arXiv 2402.06959, section 2.2).

    In training the remainder after the last firing is dropped, and while `scaling` holds, alpha is
    scaled so that the target number fires; in evaluation alpha decides alone and a large enough
    remainder fires too.

    Args:
        config: configuration of the whole model.
        width: D.
        most: largest number of keywords that CLIP's text encoder reads.
    """

    def __init__(self, config: ModelConfig, width: int, most: int) -> None:
        super().__init__()
        self.config = replace(config.cif, max_fires=min(config.cif.max_fires, most))
        self.read_padding = not config.batch_invariant
        self.weights = CifWeights(width, config.cif, read_padding=self.read_padding)

    def forward(self, frames: Tensor, lengths: Tensor, *, scaling: bool) -> Segments:
        """Segment.

        Args:
            frames: (B, T, D).
            lengths: valid frames, (B,).
            scaling: whether to scale alpha to the target in training.
        """
        config = self.config
        alpha = self.weights(frames, padding_mask(lengths, frames.shape[1]))
        target = (lengths / config.frames_per_keyword).round().long()
        scaled = alpha
        if self.training and scaling:
            scaled = scale_to_target(alpha, target, config.threshold)
        weights, counts = firing_weights(
            scaled,
            threshold=config.threshold,
            tail_threshold=config.tail_threshold,
            max_fires=config.max_fires,
            keep_tail=not self.training,
            keep_unfired=self.training and self.read_padding,
        )
        spans = firing_spans(scaled, counts, lengths, config.threshold)
        firing = Firing(alpha=alpha, quantity=alpha.sum(1), target=target)
        return Segments(weights, counts, spans, firing)


class WordSegmenter(nn.Module):
    """Segment frames into words, as `WordsConfig` says.

    Args:
        config: configuration of the whole model.
        width: D.
        most: largest number of keywords that CLIP's text encoder reads.
    """

    def __init__(self, config: ModelConfig, width: int, most: int) -> None:
        super().__init__()
        self.config = config.words
        self.most = most
        trained = config.words.segmenter == "cif"
        self.cif = CifSegmenter(config, width, most) if trained else None

    def forward(self, frames: Tensor, speech: SpeechFeatures, *, scaling: bool) -> Segments:
        """Segment.

        Args:
            frames: mixed encoder states, (B, T, D).
            speech: the encoder's own states, valid frames and known word times.
            scaling: whether CIF scales alpha to the target in training.
        """
        config = self.config
        name = config.segmenter if self.training else config.at_inference
        if name == "cif":
            assert self.cif is not None
            return self.cif(frames, speech.lengths, scaling=scaling)
        if name == "windows":
            spans, counts = window_spans(speech.lengths, config.frames_per_word)
        elif name == "mincut" or not speech.words.numel():
            spans, counts = self._mincut(speech)
        else:
            spans, counts = self._word_times(speech)
        counts = counts.clamp_max(self.most)
        spans = spans[:, : int(counts.max())]
        spans = spans.masked_fill(padding_mask(counts, spans.shape[1]).unsqueeze(2), 0.0)
        return Segments(overlaps(spans, frames.shape[1]), counts, spans * FRAME)

    def _mincut(self, speech: SpeechFeatures) -> tuple[Tensor, Tensor]:
        config = self.config
        counts = segment_counts(speech.lengths, config.frames_per_part)
        layer = len(speech.hidden_states) // 2 if config.layer is None else config.layer
        states = centred(speech.hidden_states[layer].detach(), speech.lengths)
        with torch.autocast(states.device.type, enabled=False):  # in bf16 alike frames tie
            bounds = minimum_cut(self_similarity(states), speech.lengths, counts)
            return merge_alike(states, bounds, counts, config.merge_above)

    def _word_times(self, speech: SpeechFeatures) -> tuple[Tensor, Tensor]:
        """Return the spans of known words; recordings without are cut by minimum cut."""
        spans = speech.words.float() / HOP
        spans = spans.minimum(speech.lengths.view(-1, 1, 1).to(spans.dtype))
        counts = (spans[..., 1] > spans[..., 0]).sum(1)
        unknown = counts == 0
        if not unknown.any():
            return spans, counts
        rest = SpeechFeatures(
            tuple(states[unknown] for states in speech.hidden_states), speech.lengths[unknown]
        )
        found, found_counts = self._mincut(rest)
        width = max(spans.shape[1], found.shape[1])
        spans = F.pad(spans, (0, 0, 0, width - spans.shape[1]))
        spans[unknown] = F.pad(found, (0, 0, 0, width - found.shape[1]))
        counts[unknown] = found_counts
        return spans, counts


def segment_counts(lengths: Tensor, frames_each: float) -> Tensor:
    """Return how many segments of about `frames_each` frames there are in lengths (B,)."""
    return (lengths / frames_each).round().long().clamp_min(1)


def window_spans(lengths: Tensor, frames_each: float) -> tuple[Tensor, Tensor]:
    """Cut utterances into equal parts of about `frames_each` frames.

    Args:
        lengths: valid frames, (B,).
        frames_each: frames.

    Returns:
        Spans in frames, (B, K, 2) float32, of no meaning beyond the counts; counts (B,).
    """
    counts = segment_counts(lengths, frames_each)
    edges = torch.arange(int(counts.max()) + 1, device=lengths.device)
    bounds = edges * (lengths / counts).unsqueeze(1)
    return torch.stack([bounds[:, :-1], bounds[:, 1:]], 2), counts


def overlaps(spans: Tensor, frames: int) -> Tensor:
    """Compute which share of each frame lies in each span.

    Args:
        spans: (B, K, 2) in frames.
        frames: T.

    Returns:
        (B, K, T) in [0, 1].
    """
    onset, offset = spans.unsqueeze(3).unbind(2)
    left = torch.arange(frames, device=spans.device, dtype=spans.dtype)
    return (torch.minimum(offset, left + 1) - torch.maximum(onset, left)).clamp_min(0)


def centred(states: Tensor, lengths: Tensor) -> Tensor:
    """Subtract each utterance's mean state from its valid frames (B, T, D); zero on padding.

    All frames of an encoder share a large direction; without it cosines tell them apart.
    """
    valid = ~padding_mask(lengths, states.shape[1]).unsqueeze(2)
    states = states.float().masked_fill(~valid, 0.0)
    mean = states.sum(1, keepdim=True) / lengths.view(-1, 1, 1)
    return (states - mean) * valid


def self_similarity(states: Tensor) -> Tensor:
    """Compute the cosines of all pairs of states (B, T, D), negative ones zero; (B, T, T)."""
    unit = F.normalize(states, dim=2)
    return (unit @ unit.transpose(1, 2)).clamp_min(0)


def minimum_cut(similarity: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
    """Cut each utterance into segments that are alike inside and unlike the rest.

    The normalised minimum cut of a sequence (Malioutov and Barzilay, 2006), as used for syllables
    by Peng et al. (arXiv 2305.11435): of all ways to cut the frames into K runs, the one with the
    least sum of cut(S) / volume(S), where cut is the similarity between frames of S and others,
    volume that between frames of S and all. Exact, by dynamic programming over the end of the last
    run, for all utterances at once.

    Args:
        similarity: (B, T, T), symmetric, at least 0, zero on padding.
        lengths: valid frames, (B,).
        counts: K of each utterance, (B,), at most its length.

    Returns:
        Bounds in frames, (B, max K + 1) int64; those beyond an utterance's K are its length.
    """
    batch, frames, _ = similarity.shape
    volume = F.pad(similarity.sum(2).cumsum(1), (1, 0))
    summed = F.pad(similarity.cumsum(1).cumsum(2), (1, 0, 1, 0))
    corner = summed.diagonal(dim1=1, dim2=2)
    inside = corner.unsqueeze(1) + corner.unsqueeze(2) - summed - summed.transpose(1, 2)
    volumes = volume.unsqueeze(1) - volume.unsqueeze(2)
    cost = 1 - inside / volumes.clamp_min(1e-6)
    runs = torch.ones(frames + 1, frames + 1, dtype=torch.bool, device=cost.device).triu(1)
    cost = cost.masked_fill(~runs, float("inf"))
    best = torch.full((batch, frames + 1), float("inf"), device=cost.device)
    best[:, 0] = 0.0
    starts = []
    for _ in range(int(counts.max())):
        best, start = (best.unsqueeze(2) + cost).min(1)
        starts.append(start)
    bounds = lengths.unsqueeze(1).repeat(1, len(starts) + 1)
    for number, start in reversed([*enumerate(starts)]):
        before = start.gather(1, bounds[:, number + 1 : number + 2]).squeeze(1)
        bounds[:, number] = torch.where(number < counts, before, lengths)
    return bounds


def merge_alike(
    states: Tensor, bounds: Tensor, counts: Tensor, above: float
) -> tuple[Tensor, Tensor]:
    """Merge neighbours whose mean states are alike (Peng et al., arXiv 2305.11435, section 3).

    Args:
        states: centred, (B, T, D).
        bounds: of consecutive segments, (B, K + 1) frames.
        counts: segments per utterance, (B,).
        above: cosine of the mean states from which on two neighbours are one segment.

    Returns:
        Spans in frames, (B, K, 2) float32, of no meaning beyond the counts; counts (B,).
    """
    spans = torch.stack([bounds[:, :-1], bounds[:, 1:]], 2).float()
    means = F.normalize(overlaps(spans, states.shape[1]) @ states.float(), dim=2)
    alike = (means[:, 1:] * means[:, :-1]).sum(2) >= above
    kept = F.pad(~alike, (1, 0), value=True) & ~padding_mask(counts, spans.shape[1])
    counts = kept.sum(1)
    # Onsets that are kept move to the front, in order; each lasts to the next, the last to the end.
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    onsets = spans[..., 0].gather(1, order)
    offsets = F.pad(onsets[:, 1:], (0, 1))
    last = (counts - 1).unsqueeze(1)
    offsets = offsets.scatter(1, last, bounds[:, -1:].float())
    return torch.stack([onsets, offsets], 2), counts
