"""Boundaries, times and names of segments against a slow oracle and by-hand cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import keyword_oracle as oracle

from s3prl_speechclip.benchmarks.formulas.segments import (
    Segmented,
    boundaries,
    boundary_scores,
    closest_word,
    matches,
    named_at,
    r_value,
    timing_errors,
)
from s3prl_speechclip.data.manifest import Word
from s3prl_speechclip.encoders.vocabulary import encode

edges = st.lists(st.integers(0, 30), max_size=6, unique=True).map(
    lambda places: [0.01 * place for place in sorted(places)]
)


@given(edges, edges, st.sampled_from([0.0, 0.02, 0.05]))
def test_matching_agrees_with_every_way_tried(
    predicted: list[float], gold: list[float], tolerance: float
) -> None:
    """Guards the one-to-one matching where several boundaries lie within the tolerance."""
    assert matches(predicted, gold, tolerance) == oracle.largest_matching(
        predicted, gold, tolerance
    )


DOG = (Word("a", 0.1, 0.2), Word("dog", 0.2, 0.6), Word("barks", 0.7, 1.0))


def test_boundaries_are_inside_and_distinct() -> None:
    """Guards against counting the ends of an utterance, and the edge of two words twice."""
    assert boundaries([0.0, 0.2, 0.2, 0.6, 0.7, 1.0], 1.0) == [0.2, 0.6, 0.7]


def test_scores_of_a_known_case() -> None:
    """Gold 0.1 0.2 0.6 0.7; predicted 0.12, 0.65, 0.9: one agrees at 20 ms, two at 50 ms."""
    case = [Segmented(spans=((0.0, 0.12), (0.12, 0.65), (0.65, 0.9)), words=DOG, duration=1.0)]
    close = boundary_scores(case, 0.02)
    assert close["precision"] == pytest.approx(100 / 3)
    assert close["recall"] == pytest.approx(25.0)
    assert close["per_word"] == pytest.approx(0.75)
    wide = boundary_scores(case, 0.05)
    assert wide["precision"] == pytest.approx(200 / 3)
    assert wide["f1"] == pytest.approx(400 / 7)
    assert wide["r_value"] == pytest.approx(100 * r_value(0.5, -0.25))


def test_r_value_of_known_cases() -> None:
    """The perfect segmentation, and boundaries everywhere (recall 1, twice as many as there are):
    1 - (1 + 1 / sqrt 2) / 2, after Rasanen, Laine and Altosaar (2009), eq. 2 to 4."""
    assert r_value(1.0, 0.0) == 1.0
    assert r_value(1.0, 1.0) == pytest.approx(1 - (1 + 1 / math.sqrt(2)) / 2)


def test_no_boundary_is_no_crash() -> None:
    """Guards a model that fires once an utterance."""
    case = [Segmented(spans=((0.0, 1.0),), words=DOG, duration=1.0)]
    found = boundary_scores(case, 0.02)
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
    assert found["r_value"] == pytest.approx(100 * r_value(0.0, -1.0))


def test_times_are_measured_from_the_word_of_most_overlap() -> None:
    assert closest_word((0.15, 0.5), DOG) == DOG[1]
    assert closest_word((1.1, 1.5), DOG) is None
    case = Segmented(spans=((0.15, 0.5), (0.6, 1.1), (1.1, 1.5)), words=DOG, duration=1.5)
    found = timing_errors([case])
    assert found["onset_mean"] == pytest.approx((0.05 + 0.1) / 2)
    assert found["onset_bias"] == pytest.approx((-0.05 - 0.1) / 2)
    assert found["offset_median"] == pytest.approx(0.1)
    assert found["offset_bias"] == pytest.approx(0.0)
    assert found["silent"] == pytest.approx(100 / 3)


def test_only_words_under_the_span_are_named() -> None:
    """Guards against a keyword that names a word spoken elsewhere."""
    dog, (barks, *_) = encode("dog")[0], encode("barks")
    near = {dog: (dog,), barks: (barks, dog)}
    case = Segmented(
        spans=((0.2, 0.5), (0.25, 0.6), (0.7, 0.9), (0.7, 0.9)),
        words=DOG,
        duration=1.0,
        token_ids=(dog, barks, dog, barks),
    )
    assert named_at([case], near) == {"token": 50.0, "neighbours": 75.0, "anywhere": 100.0}
