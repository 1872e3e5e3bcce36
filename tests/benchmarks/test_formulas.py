"""Scores of keywords and segments against slow oracles, by-hand cases, and random trials."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import keyword_oracle as oracle

from s3prl_speechclip.benchmarks.formulas.keyword_scores import (
    Naming,
    chance_hit_rate,
    hit_rate,
    hit_rate_by_slot,
    keyword_counts,
    naming_scores,
    read_caption,
    shuffled_hit_rate,
    stop_words,
    word_of,
    words_of,
)
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
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, encode

TEXT = "a dog and a red ball . the cat 's hat on an old house with blue birds"
TOKENS = sorted(set(encode(TEXT)))
CAPTIONS = ["A dog and a red ball .", "The cat's hat", "an old house", "Blue birds.", "!"]


def near(width: int = 3) -> dict[int, tuple[int, ...]]:
    """Neighbours on a circle: each token and the next ones."""
    ring = TOKENS * 2
    return {token: tuple(ring[place : place + width]) for place, token in enumerate(TOKENS)}


namings = st.lists(
    st.builds(
        lambda tokens, caption: Naming(token_ids=tuple(tokens), caption=caption),
        st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6),
        st.sampled_from(CAPTIONS),
    ),
    min_size=1,
    max_size=6,
)


@given(namings, st.booleans())
@settings(max_examples=50)
def test_hit_rate_agrees_with_the_oracle(cases: list[Naming], stopped: bool) -> None:
    """Guards the definition: per keyword, any neighbour, against the caption's own tokens."""
    without = stop_words() if stopped else frozenset()
    captions = [set(read_caption(n.caption, without).tokens) for n in cases]
    hits = [
        oracle.hits(list(n.token_ids), tokens, near())
        for n, tokens in zip(cases, captions, strict=True)
    ]
    found = hit_rate(cases, near(), without)
    assert found["mean"] == pytest.approx(100 * sum(hits) / sum(len(n.token_ids) for n in cases))
    assert found["any"] == pytest.approx(100 * sum(map(bool, hits)) / len(cases))
    assert shuffled_hit_rate(cases, near(), without) == pytest.approx(
        oracle.shuffled_hit_rate([list(n.token_ids) for n in cases], captions, near())
    )


@given(namings)
@settings(max_examples=50)
def test_token_scores_agree_with_the_oracle(cases: list[Naming]) -> None:
    """Guards repeated keywords, which count once, and micro-averaging."""
    found = naming_scores(cases)["tokens"]
    expected = oracle.overlap(
        [set(n.token_ids) for n in cases], [set(encode(n.caption)) for n in cases]
    )
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)


def test_slots_average_to_the_mean() -> None:
    """Guards the published form, one rate a slot, where every recording has as many."""
    dog, red, blue = encode("dog red blue")
    cases = [
        Naming(token_ids=(dog, red), caption="A dog and a red ball ."),
        Naming(token_ids=(dog, blue), caption="Blue birds."),
    ]
    alone = {token: (token,) for token in TOKENS}
    assert hit_rate_by_slot(cases, alone) == [50.0, 100.0]
    assert hit_rate(cases, alone) == {"mean": 75.0, "any": 100.0}


def test_chance_is_what_random_neighbours_give() -> None:
    """Guards the closed form; 3,000 rounds of 8 keywords hold a share to 1 %."""
    cases = [
        Naming(token_ids=(TOKENS[0],) * count, caption=caption)
        for count, caption in zip((3, 1, 4), CAPTIONS, strict=False)
    ]
    captions = [set(encode(n.caption)) for n in cases]
    expected = oracle.random_hit_rate(captions, [3, 1, 4], TOKENS, 5, 3000)
    assert chance_hit_rate(cases, TOKENS) == pytest.approx(expected, abs=1.0)


def test_words_are_those_that_a_token_names_alone() -> None:
    """Guards word scores against parts of words and punctuation."""
    dog, stop = encode("dog .")
    part = encode("woodpeckers")[0]
    assert word_of(dog) == "dog"
    assert word_of(stop) is None
    assert word_of(part) is None
    assert all(word_of(token) is None for token in SPECIAL_TOKENS)
    found = naming_scores(
        [Naming(token_ids=(dog, dog, stop, part), caption="A dog's dog, a DOG!")]
    )["words"]
    assert found == {"precision": 100.0, "recall": pytest.approx(100 / 3), "f1": 50.0}


def test_stop_words_count_on_neither_side() -> None:
    """Guards the figure without stop words against rewarding and punishing articles."""
    a, dog = encode("a dog")
    case = [Naming(token_ids=(a, dog), caption="A dog on the house")]
    found = naming_scores(case, stop_words())["words"]
    assert found["precision"] == 100.0
    assert found["recall"] == 50.0
    assert hit_rate(case, {a: (a,), dog: (dog,)}, stop_words())["mean"] == 50.0
    assert len(stop_words()) == 127


def test_counts_of_a_known_case() -> None:
    a, dog, red = encode("a dog red")
    found = keyword_counts(
        [
            Naming(token_ids=(dog, dog, red), caption="A red dog"),
            Naming(token_ids=(a,), caption="It's a dog-house."),
        ]
    )
    assert words_of("It's a dog-house.") == ["it's", "a", "dog", "house"]
    assert found["keywords"] == 2.0
    assert found["words"] == 3.5
    assert found["keywords_per_word"] == pytest.approx(4 / 7)
    assert found["difference"] == 1.5
    assert found["correlation"] == pytest.approx(-1.0)
    assert found["duplicates"] == 25.0
    assert found["distinct"] == 3.0
    assert found["most_frequent"] == 50.0


def test_a_model_that_says_nothing_right_has_zeros_and_no_nan() -> None:
    """Guards divisions by nothing: no words, no tokens of the caption."""
    (stop,) = encode(".")
    found = naming_scores([Naming(token_ids=(stop,), caption="!")])["words"]
    assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert keyword_counts([Naming(token_ids=(stop,), caption="!")])["keywords_per_word"] == 1.0


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
