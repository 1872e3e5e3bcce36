"""Masks and statistics over valid positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import AudioError
from ..structures import SpeechBatch


def padding_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Mark padded positions.

    Args:
        lengths: valid frames per utterance, (B,), int64.
        max_length: padded length, frames.

    Returns:
        (B, max_length) bool, True at padding.
    """
    positions = torch.arange(max_length, device=lengths.device)
    return positions.unsqueeze(0) >= lengths.unsqueeze(1)


def folded_padding_mask(sample_lengths: Tensor, max_samples: int, frames: int) -> Tensor:
    """Derive the frames' padding mask from the waveforms' as fairseq does.

    The waveform mask is cut to a multiple of `frames` and folded; a frame is padding where all the
    samples folded onto it are. It differs by up to a frame from the frames that the convolutions
    make of an utterance alone.

    Args:
        sample_lengths: valid samples, (B,), int64.
        max_samples: padded length, samples.
        frames: padded length, frames.

    Returns:
        (B, frames) bool, True at padding.
    """
    samples_per_frame = max_samples // frames
    first_samples = torch.arange(frames, device=sample_lengths.device) * samples_per_frame
    return first_samples.unsqueeze(0) >= sample_lengths.unsqueeze(1)


def masked_group_norm(
    features: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Normalise each channel over the valid frames of its own utterance.

    It is `torch.nn.GroupNorm` with one group a channel, as HuBERT Base's first convolution has it,
    with the padding left out of mean and variance, so that an utterance's features do not depend
    on what else is in the batch.

    Args:
        features: (B, C, T).
        lengths: valid frames, (B,), int64, at least 1 each.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (B, C, T), of no meaning on padding.
    """
    valid = ~padding_mask(lengths, features.shape[-1]).unsqueeze(1)
    count = lengths.view(-1, 1, 1).to(torch.float32)
    wide = features.float()
    mean = (wide * valid).sum(-1, keepdim=True) / count
    centred = wide - mean
    variance = (centred.square() * valid).sum(-1, keepdim=True) / count
    scale = torch.rsqrt(variance + eps) * weight.float().view(1, -1, 1)
    return (centred * scale + bias.float().view(1, -1, 1)).to(features.dtype)


def pad_waveforms(waveforms: Sequence[Tensor | np.ndarray]) -> SpeechBatch:
    """Pad recordings of any length to one batch.

    Args:
        waveforms: 1-D float tensors or NumPy arrays, 16 kHz.

    Raises:
        AudioError: no recording, or one that is not 1-D, floating-point and non-empty.
    """
    if not len(waveforms):
        raise AudioError("no recordings given; expected a list of 1-D float tensors, 16 kHz")
    tensors = [_waveform(waveform, index) for index, waveform in enumerate(waveforms)]
    lengths = torch.tensor([len(waveform) for waveform in tensors])
    padded = pad_sequence(tensors, batch_first=True)
    return SpeechBatch(padded, lengths.to(padded.device))


def _waveform(value: object, index: int) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        value = torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="))))
    found = type(value).__name__
    if isinstance(value, Tensor):
        if value.ndim == 1 and value.is_floating_point() and value.numel():
            return value.float()
        found = f"{value.dtype} of shape {tuple(value.shape)}"
    raise AudioError(f"recording {index} must be a 1-D float tensor with samples, found {found}")
