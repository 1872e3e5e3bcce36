"""Alignments beside dtw-python's of each pair; measures beside their definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dtw import dtw
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from s3prl_speechclip.downstream import detection
from s3prl_speechclip.downstream.detection import (
    BETA,
    DISTANCES,
    EFFECTIVE_PRIOR,
    find_distance,
    match_costs,
    measure_detection,
    twv_error,
)
from s3prl_speechclip.errors import ConfigError, CorpusError

SCIPY = {
    "cosine": lambda q, d: cdist(q, d, "cosine"),
    "cosine_exp": lambda q, d: np.exp(cdist(q, d, "cosine")) - 1,
    "cosine_neg_log": lambda q, d: -np.log(1 - cdist(q, d, "cosine")),
    "euclidean": lambda q, d: cdist(q, d, "euclidean"),
    "cityblock": lambda q, d: cdist(q, d, "cityblock"),
}


def sequences(lengths: list[int], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n, 6, generator=generator, dtype=torch.float64) + 0.1 for n in lengths]


def slow_cost(query: np.ndarray, document: np.ndarray, method: str, minmax: bool) -> float:
    distances = SCIPY[method](query, document)
    if minmax:
        low, high = distances.min(1, keepdims=True), distances.max(1, keepdims=True)
        distances = (distances - low) / np.clip(high - low, 1e-9, np.inf)
    found = dtw(x=distances, step_pattern="asymmetric", open_begin=True, open_end=True)
    return float(found.normalizedDistance)


@pytest.mark.parametrize("minmax", [True, False])
@pytest.mark.parametrize("method", DISTANCES)
def test_costs_are_those_of_dtw_python(method, minmax, monkeypatch):
    """Guards against a wrong step pattern, padding that is matched, or mixed up documents."""
    monkeypatch.setitem(detection.CHUNK, "cpu", 30)  # several groups of documents
    queries, documents = sequences([5, 9, 1], seed=0), sequences([12, 3, 20, 7, 1, 8], seed=1)
    costs = match_costs(queries, documents, find_distance(method), minmax)
    expected = [
        [slow_cost(q.numpy(), d.numpy(), method, minmax) for d in documents] for q in queries
    ]
    torch.testing.assert_close(costs, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_costs_of_hidden_states_are_those_of_dtw_python_to_1e_6():
    """Guards float32 matrix products on frames that mostly agree, as hidden states do."""
    generator = torch.Generator().manual_seed(2)
    shared = torch.randn(768, generator=generator)
    drawn = [shared + torch.randn(n, 768, generator=generator) for n in (50, 23, 350, 280, 90)]
    costs = match_costs(drawn[:2], drawn[2:], find_distance("cosine_exp"), True)
    expected = [
        [slow_cost(q.double().numpy(), d.double().numpy(), "cosine_exp", True) for d in drawn[2:]]
        for q in drawn[:2]
    ]
    torch.testing.assert_close(costs, torch.tensor(expected), atol=1e-6, rtol=0)


def test_an_unknown_distance_is_named():
    with pytest.raises(ConfigError, match="did you mean 'cosine_exp'"):
        find_distance("cosin_exp")


def slow_twv(scores: np.ndarray, targets: np.ndarray, threshold: float) -> float:
    """1 - mean over queries of (P_miss + beta P_fa), detections at or above the threshold."""
    lost = []
    for row, truth in zip(scores, targets, strict=True):
        held, others = truth.sum(), (~truth).sum()
        if not held or not others:
            continue
        misses = sum(1 for s, t in zip(row, truth, strict=True) if t and s < threshold)
        alarms = sum(1 for s, t in zip(row, truth, strict=True) if not t and s >= threshold)
        lost.append(misses / held + BETA * alarms / others)
    return 1 - sum(lost) / len(lost)


def test_the_weight_of_false_alarms_is_the_published_one():
    """beta = C_fa / C_miss x (1 / P_target - 1), and the scorer's prior is 0.0741."""
    assert math.isclose(BETA, 1 / 100 * (1 / 0.0008 - 1))
    assert round(EFFECTIVE_PRIOR, 7) == 0.0741290


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_max_twv_is_the_best_over_all_thresholds(data):
    """Guards against thresholds between equal scores, and against queries weighed by targets."""
    rows, columns = 3, 6
    values = st.lists(st.integers(-3, 3), min_size=rows * columns, max_size=rows * columns)
    scores = np.array(data.draw(values), dtype=float).reshape(rows, columns)
    truth = st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)
    targets = np.array(data.draw(truth)).reshape(rows, columns)
    targets[0, :2] = [True, False]  # at least one query counts
    thresholds = [*np.unique(scores), math.inf]
    best = max(slow_twv(scores, targets, t) for t in thresholds)
    assert measure_detection(scores, targets)[0] == pytest.approx(best, abs=1e-9)


def test_the_error_of_twv_is_that_of_a_mean_over_queries():
    """Guards the standard error against trials, which are not independent, instead of queries."""
    random = np.random.default_rng(0)
    targets = random.random((20, 30)) < 0.1
    targets[:, 0] = True
    scores = random.standard_normal(targets.shape) + 3 * targets
    best = max(np.unique(scores), key=lambda t: slow_twv(scores, targets, t))
    alone = [slow_twv(s[None], t[None], best) for s, t in zip(scores, targets, strict=True)]
    assert np.mean(alone) == pytest.approx(measure_detection(scores, targets)[0])
    assert twv_error(scores, targets) == pytest.approx(np.std(alone, ddof=1) / np.sqrt(20))


def test_min_cnxe_is_the_lowest_over_affine_calibrations():
    """Guards the optimiser against stopping early, by a fine grid of gains and offsets."""
    random = np.random.default_rng(0)
    targets = random.random((8, 40)) < 0.2
    scores = random.normal(size=targets.shape) + 1.5 * targets
    odds = EFFECTIVE_PRIOR / (1 - EFFECTIVE_PRIOR)

    def cnxe(llr: np.ndarray) -> float:
        missed = np.log2(1 + 1 / (odds * np.exp(llr[targets]))).mean()
        alarmed = np.log2(1 + odds * np.exp(llr[~targets])).mean()
        prior = EFFECTIVE_PRIOR
        own = prior * missed + (1 - prior) * alarmed
        return own / -(prior * np.log2(prior) + (1 - prior) * np.log2(1 - prior))

    grid = (cnxe(g * scores + o) for g in np.linspace(0, 3, 61) for o in np.linspace(-4, 1, 101))
    found = measure_detection(scores, targets)[1]
    assert found == pytest.approx(min(grid), abs=2e-3)  # the grid's pitch
    assert found < 0.9


def test_scores_that_say_nothing_are_worth_what_the_prior_is():
    """Guards against a value above chance for a system that does not listen."""
    targets = np.zeros((4, 10), dtype=bool)
    targets[:, 3] = True
    assert measure_detection(np.zeros((4, 10)), targets) == (0.0, pytest.approx(1.0))


def test_a_truth_without_targets_is_an_error():
    with pytest.raises(CorpusError, match="ground truth"):
        measure_detection(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool))
