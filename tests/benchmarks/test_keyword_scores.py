"""Keyword scores against a slow oracle, by-hand cases, and random trials."""

from __future__ import annotations

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
