"""Masks, and group norm that leaves padding out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s3prl_speechclip.modules.padding import (
    folded_padding_mask,
    masked_group_norm,
    pad_waveforms,
    padding_mask,
)


def test_padding_begins_at_the_length():
    assert padding_mask(torch.tensor([0, 2, 3]), 3).tolist() == [
        [True, True, True],
        [False, False, True],
        [False, False, False],
    ]


@given(
    samples=st.lists(st.integers(1, 5_000), min_size=1, max_size=5),
    frames=st.integers(1, 15),
)
def test_the_fold_is_fairseqs(samples: list[int], frames: int):
    """Guards the official mask: a frame is padding where all samples folded onto it are."""
    longest = max(max(samples), frames)
    waveform_mask = torch.arange(longest).unsqueeze(0) >= torch.tensor(samples).unsqueeze(1)
    cut = waveform_mask[:, : longest - longest % frames]
    expected = cut.view(len(samples), frames, -1).all(-1)
    assert torch.equal(folded_padding_mask(torch.tensor(samples), longest, frames), expected)


@given(lengths=st.lists(st.integers(2, 20), min_size=1, max_size=4))
def test_group_norm_is_that_of_each_utterance_alone(lengths: list[int]):
    """Guards the masked statistics against those of PyTorch's norm on the cut utterance."""
    norm = nn.GroupNorm(3, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    features = torch.randn(len(lengths), 3, max(lengths)) * 2 + 1
    found = masked_group_norm(features, torch.tensor(lengths), norm.weight, norm.bias, norm.eps)
    for row, length in enumerate(lengths):
        alone = norm(features[row : row + 1, :, :length])[0]
        torch.testing.assert_close(found[row, :, :length], alone, atol=1e-4, rtol=1e-4)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_a_batch_holds_every_recording_and_zeros(lengths: list[int]):
    """Guards samples, order and padding."""
    recordings = [torch.randn(length) for length in lengths]
    batch = pad_waveforms(recordings)
    assert batch.lengths.tolist() == lengths
    assert batch.waveforms.shape == (len(lengths), max(lengths))
    for row, recording in enumerate(recordings):
        assert torch.equal(batch.waveforms[row, : len(recording)], recording)
        assert not batch.waveforms[row, len(recording) :].any()
