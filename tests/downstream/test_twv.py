"""Detection measures, beside their definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_speechclip.downstream.twv import BETA, EFFECTIVE_PRIOR, measure_detection
from s3prl_speechclip.errors import CorpusError


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
    found = measure_detection(scores, targets, decided=0.5)
    assert found.max_twv == pytest.approx(best, abs=1e-9)
    assert found.act_twv == pytest.approx(slow_twv(scores, targets, 0.5), abs=1e-9)
    assert slow_twv(scores, targets, found.threshold) == pytest.approx(best, abs=1e-9)


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
    found = measure_detection(scores, targets, decided=0.0).min_cnxe
    assert found == pytest.approx(min(grid), abs=2e-3)  # the grid's pitch
    assert found < 0.9


def test_scores_that_say_nothing_are_worth_what_the_prior_is():
    """Guards against a value above chance for a system that does not listen."""
    targets = np.zeros((4, 10), dtype=bool)
    targets[:, 3] = True
    found = measure_detection(np.zeros((4, 10)), targets, decided=2.0)
    assert found.max_twv == 0.0 and found.act_twv == 0.0
    assert found.min_cnxe == pytest.approx(1.0)


def test_a_truth_without_targets_is_an_error():
    with pytest.raises(CorpusError, match="ground truth"):
        measure_detection(np.zeros((2, 3)), np.zeros((2, 3), dtype=bool), decided=0.0)
