"""Words by the number of training pictures that have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_corpus import write_flickr8k

from s3prl_speechclip.benchmarks.shared.decoding import Decoded
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import encode
from s3prl_speechclip.minis.training.frequency import (
    known_words,
    named_by_frequency,
    pictures_by_word,
)

CAPTIONS = (
    ("train", 0, "A red dog."),
    ("train", 1, "The dog, a dog!"),
    ("train", 2, "A red cat."),
    ("train", 2, "A red cat on a mat."),
    ("test", 3, "A red fox and the cat."),
    ("test", 4, "A dog."),
)
"""Split, picture and caption."""


@pytest.fixture
def corpus(tmp_path) -> Manifest:
    read = flickr8k.read(write_flickr8k(tmp_path, train=1, dev=1, test=1))
    utterances = tuple(
        replace(read.utterances[0], split=split, pair_id=pair_id, caption=caption, text=caption)
        for split, pair_id, caption in CAPTIONS
    )
    return replace(read, utterances=utterances)


@pytest.fixture
def decoded(corpus) -> list[Decoded]:
    (fox,), (dog,), (the,) = map(encode, ("fox", "dog", "the"))
    named = ((fox, dog), (dog, the))
    return [
        Decoded(utterance=utterance, frames=9, token_ids=token_ids)
        for utterance, token_ids in zip(corpus.split("test"), named, strict=True)
    ]


def test_a_picture_counts_once_and_test_pictures_do_not(corpus):
    """Guards the count against recordings in place of pictures, repeats, and test captions."""
    assert pictures_by_word(corpus) == {"red": 2, "dog": 2, "cat": 1, "mat": 1}


def test_words_are_counted_where_they_belong(corpus, decoded):
    """Guards shares, vocabulary and names against another denominator, and against stop words.

    Of red, fox and cat the keywords fox and dog name one, and of dog the keyword dog.
    """
    found = named_by_frequency(decoded, pictures_by_word(corpus), frozenset({"dog", "cat", None}))
    assert found == {
        "none": {"share": 25.0, "in_vocabulary": 0.0, "named": 100.0},  # fox
        "1": {"share": 25.0, "in_vocabulary": 100.0, "named": 0.0},  # cat
        "2 to 4": {"share": 50.0, "in_vocabulary": 50.0, "named": 50.0},  # red, dog
    }


def test_rare_words_are_left_out_of_captions(corpus, decoded):
    """Guards the upper bound against words that the model cannot know, and against their order."""
    pictures = pictures_by_word(corpus)
    assert known_words(decoded, pictures, 0) == ["red fox cat", "dog"]
    assert known_words(decoded, pictures, 1) == ["red cat", "dog"]
    assert known_words(decoded, pictures, 2) == ["red", "dog"]
    assert known_words(decoded, pictures, 3) == ["", ""]
