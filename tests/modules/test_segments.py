"""Segmenters: minimum cut against all cuts there are, word times, windows, one contract."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_config

from s3prl_speechclip.model.config import SEGMENTATIONS, WordsConfig
from s3prl_speechclip.modules.padding import padding_mask
from s3prl_speechclip.modules.segments import (
    FRAME,
    WordSegmenter,
    centred,
    merge_alike,
    minimum_cut,
    overlaps,
    self_similarity,
    window_spans,
)
from s3prl_speechclip.structures import SAMPLE_RATE, SpeechFeatures

WIDTH = 32


def cut_cost(similarity: torch.Tensor, bounds: list[int]) -> float:
    """Sum cut / volume over the runs between bounds, term by term."""
    frames = range(len(similarity))
    total = 0.0
    for start, end in pairwise(bounds):
        run = range(start, end)
        volume = sum(float(similarity[a, b]) for a in run for b in frames)
        cut = sum(float(similarity[a, b]) for a in run for b in frames if b not in run)
        total += cut / volume
    return total


def speech(*lengths: int, words: list[list[tuple[float, float]]] | None = None) -> SpeechFeatures:
    """Make three hidden states of noise, with word times."""
    torch.manual_seed(0)
    states = tuple(torch.randn(len(lengths), max(lengths), WIDTH) for _ in range(3))
    longest = max(map(len, words or [[]]))
    times = torch.zeros(len(lengths), longest, 2, dtype=torch.int64)
    for row, own in enumerate(words or []):
        times[row, : len(own)] = (torch.tensor(own).reshape(-1, 2) * SAMPLE_RATE).round()
    return SpeechFeatures(states, torch.tensor(lengths), times)


def segmenter(name: str, **changes: object) -> WordSegmenter:
    config = small_config("speechclip_words", words=WordsConfig(segmenter=name, **changes))
    torch.manual_seed(0)
    return WordSegmenter(config, WIDTH, 75)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(1, 9), data=st.data())
def test_minimum_cut_is_the_least_of_all_cuts(seed: int, frames: int, data: st.DataObject) -> None:
    """Fault: a wrong recurrence or path; against every cut, in a batch with a longer utterance."""
    count = data.draw(st.integers(1, frames))
    generator = torch.Generator().manual_seed(seed)
    padded = torch.zeros(2, frames + 2, frames + 2)
    for row, size in enumerate((frames, frames + 2)):
        half = torch.rand(size, size, generator=generator) + 0.01
        padded[row, :size, :size] = half + half.T
    lengths = torch.tensor([frames, frames + 2])
    found = minimum_cut(padded, lengths, torch.tensor([count, 2]))[0].tolist()
    assert found[0] == 0 and found[count:] == [frames] * (len(found) - count)
    own = padded[0, :frames, :frames]
    inner = combinations(range(1, frames), count - 1)
    least = min(cut_cost(own, [0, *cuts, frames]) for cuts in inner)
    # Prefix sums in float32 over at most 81 values of about 1.
    assert cut_cost(own, found[: count + 1]) == pytest.approx(least, abs=1e-4)


def test_minimum_cut_finds_blocks() -> None:
    """Fault: the cuts of an utterance are not where its frames change."""
    blocks = torch.block_diag(*(torch.ones(n, n) for n in (4, 7, 3))) + 0.05
    found = minimum_cut(blocks.unsqueeze(0), torch.tensor([14]), torch.tensor([3]))
    assert found.tolist() == [[0, 4, 11, 14]]


def test_neighbours_that_are_alike_become_one_segment() -> None:
    """Fault: merged parts leave a gap, or the last span ends early."""
    directions = torch.eye(WIDTH)[[0, 0, 1, 1, 2, 2, 2]]
    states = torch.stack([directions, directions])
    bounds = torch.tensor([[0, 1, 2, 4, 7], [0, 2, 4, 7, 7]])
    spans, counts = merge_alike(states, bounds, torch.tensor([4, 3]), above=0.5)
    assert counts.tolist() == [3, 3]
    assert [row[:3] for row in spans.tolist()] == [[[0, 2], [2, 4], [4, 7]]] * 2
    spans, counts = merge_alike(states, bounds, torch.tensor([4, 3]), above=2)
    assert counts.tolist() == [4, 3]


def test_windows_are_equal_parts() -> None:
    """Fault: a last window of a frame or two, or an utterance without any."""
    spans, counts = window_spans(torch.tensor([45, 3]), 20)
    assert counts.tolist() == [2, 1]
    assert spans[0].tolist() == [[0, 22.5], [22.5, 45]] and spans[1, 0].tolist() == [0, 3]


def test_frames_on_a_border_are_shared() -> None:
    """Fault: a frame counts whole for both of its words."""
    weights = overlaps(torch.tensor([[[0, 1.25], [1.25, 3]]]), 4)
    assert weights.tolist() == [[[1, 0.25, 0, 0], [0, 0.75, 1, 0]]]


@pytest.mark.parametrize("name", SEGMENTATIONS)
@pytest.mark.parametrize("training", [True, False])
def test_every_segmenter_keeps_the_contract(name: str, training: bool) -> None:
    """Fault: spans that are not the frames of the weights, or segments beyond the recording."""
    given = speech(60, 33, words=[[(0.1, 0.5), (0.5, 1.1)], [(0.0, 0.3)]])
    made = segmenter(name, inference_segmenter=name).train(training)
    found = made(given.hidden_states[0], given, scaling=True)
    beyond = padding_mask(found.counts, found.weights.shape[1])
    assert found.counts.min() >= 1
    assert found.weights.shape == (*found.spans.shape[:2], 60)
    assert not found.weights[beyond].any() and not found.spans[beyond].any()
    assert (found.weights.sum(1) <= 1 + 1e-5).all() or name == "cif"  # a tail is scaled up
    assert not found.weights[1, :, 33:].any()
    frames = torch.arange(60) * FRAME
    for row in range(2):
        for weights, (onset, offset) in zip(found.weights[row], found.spans[row], strict=True):
            inside = (frames + FRAME > onset + 1e-4) & (frames < offset - 1e-4)
            assert not weights[~inside].gt(1e-3).any()


def test_known_word_times_are_the_segments() -> None:
    """Fault: seconds and frames are mixed up, or a word reaches beyond the recording's frames."""
    given = speech(50, 20, words=[[(0.1, 0.5), (0.5, 1.2)], [(0.2, 0.3)]])
    found = segmenter("times").train()(given.hidden_states[0], given, scaling=False)
    assert found.counts.tolist() == [2, 1]
    torch.testing.assert_close(found.spans[0], torch.tensor([[0.1, 0.5], [0.5, 1.0]]))
    assert found.weights[0, 0].nonzero().flatten().tolist() == [*range(5, 25)]


def test_recordings_without_times_are_cut_by_minimum_cut() -> None:
    """Fault: they have no keyword, or those of their neighbour in the batch."""
    given = speech(50, 40, words=[[(0.1, 0.5), (0.5, 1.0)], []])
    timed = segmenter("times").train()(given.hidden_states[0], given, scaling=False)
    cut = segmenter("mincut").train()(given.hidden_states[0], given, scaling=False)
    count = int(cut.counts[1])
    assert timed.counts.tolist() == [2, count]
    assert torch.equal(timed.spans[1, :count], cut.spans[1, :count])


def test_word_times_are_for_training_unless_asked_for() -> None:
    """Fault: figures of a benchmark are those of an oracle, and nothing says so."""
    given = speech(50, words=[[(0.1, 0.5), (0.5, 1.0)]])
    frames = given.hidden_states[0]
    by_default = segmenter("times").eval()(frames, given, scaling=False)
    cut = segmenter("mincut").eval()(frames, given, scaling=False)
    oracle = segmenter("windows", inference_segmenter="times").eval()(frames, given, scaling=False)
    assert torch.equal(by_default.spans, cut.spans)
    torch.testing.assert_close(oracle.spans[0, 0], torch.tensor([0.1, 0.5]))


def test_similarity_is_less_the_utterances_mean() -> None:
    """Fault: a direction that all frames share makes them all alike, or padding counts."""
    states = torch.eye(WIDTH)[:4] + 50 * torch.ones(WIDTH)
    padded = torch.cat([states, torch.full((2, WIDTH), 9.0)]).unsqueeze(0)
    found = self_similarity(centred(padded, torch.tensor([4])))[0]
    torch.testing.assert_close(found[:4, :4], torch.eye(4), atol=1e-4, rtol=0)
    assert not found[4:].any() and not found[:, 4:].any()
