"""Initialisation of a speech encoder with random weights: its convolutions learn the spectrum.

Learning words from raw waveforms end to end begins with a long plateau, because nothing above the
convolutions means anything yet. Fitted first to the log-mel energies of the same recordings, which
takes seconds, they give the layers above something to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

from ..modules.padding import padding_mask
from ..structures import HOP, SAMPLE_RATE, WINDOW, SpeechBatch
from .speech import SpeechEncoder

MELS = 40
FLOOR = 1e-3  # added to energies of unit-variance waveforms before the logarithm
PEAK_LR = 3e-3


def learn_spectrum(
    encoder: SpeechEncoder,
    batches: Iterable[SpeechBatch],
    steps: int,
    autocast: AbstractContextManager[object],
) -> float:
    """Fit the convolutions to log-mel energies through a linear layer, which is discarded.

    Args:
        encoder: speech encoder, whose convolutional extractor is changed.
        batches: training recordings, at least `steps` of them, on the encoder's device.
        steps: optimiser steps, over which the learning rate rises and falls once.
        autocast: context of the forward pass, sets its precision.

    Returns:
        Mean squared error at the last step, in variances of the energies.
    """
    device = next(encoder.parameters()).device
    extractor = encoder.model.feature_extractor
    width = extractor.conv_layers[-1].conv.out_channels
    readout = nn.Linear(width, MELS).to(device)
    mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, center=False)
    mel = mel.to(device)
    parameters = [*extractor.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    error = float("nan")
    for _, speech in zip(range(steps), batches, strict=False):
        with autocast:
            padded, features, lengths = encoder.convolve(speech)
            predicted = readout(features.transpose(1, 2)).float()
        waveforms = padded.waveforms.float()
        with torch.no_grad():
            energies = mel(F.layer_norm(waveforms, waveforms.shape[-1:]))
        loss = _spectral_error(predicted, energies, lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        error = float(loss.detach())
    return error


def _spectral_error(predicted: Tensor, energies: Tensor, lengths: Tensor) -> Tensor:
    """Compare (B, T, MELS) over the frames that both have, in variances of the log energies."""
    target = (energies + FLOOR).log().transpose(1, 2)
    frames = min(predicted.shape[1], target.shape[1])
    valid = (~padding_mask(lengths, predicted.shape[1])[:, :frames]).unsqueeze(2)
    target = target[:, :frames]
    count = valid.sum() * MELS
    mean = (target * valid).sum() / count
    variance = ((target - mean).square() * valid).sum() / count
    error = ((predicted[:, :frames] - (target - mean) / variance.sqrt()).square() * valid).sum()
    return error / count
