"""CLIP's tokens and the reduced vocabularies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s3prl_speechclip.encoders.vocabulary import (
    BPE_SIZE,
    END_OF_TEXT,
    SPECIAL_TOKENS,
    START_OF_TEXT,
    corpus_vocabulary,
    decode,
    encode,
    find_vocabulary,
    read_vocabulary,
)
from s3prl_speechclip.errors import ConfigError


def test_words_survive_the_round_trip():
    assert decode(encode("A dog runs, fast")) == "a dog runs , fast"


def test_special_tokens_are_not_words():
    """Guards readable keywords against padding and sentence marks."""
    assert decode([START_OF_TEXT, *encode("dog"), END_OF_TEXT, 0, 0]) == "dog"


def test_long_captions_are_cut_to_what_clip_reads():
    assert len(encode("dog " * 100)) == 75


@pytest.mark.parametrize(("name", "size"), [("flickr8k", 8_112), ("spokencoco", 19_787)])
def test_the_released_vocabularies_ship(name: str, size: int):
    """Guards the package data, and the rows that the official code bans: 0, 2 and 3."""
    ids = find_vocabulary(name)
    assert len(ids) == size
    assert ids[[0, 2, 3]].tolist() == list(SPECIAL_TOKENS)


def test_a_corpus_gives_its_tokens_by_falling_count():
    """Guards the order, which is that of the official statistics over padded captions."""
    ids = corpus_vocabulary(["a dog", "a cat", "a dog runs"])
    words = [decode([i]) for i in ids.tolist() if i not in SPECIAL_TOKENS]
    assert ids[0] == 0 and set(ids.tolist()) >= set(SPECIAL_TOKENS)
    assert words == ["a", "dog", *sorted(["cat", "runs"], key=lambda w: encode(w)[0])]


def test_the_full_vocabulary_is_clips():
    assert torch.equal(find_vocabulary("full"), torch.arange(BPE_SIZE))


def test_a_corpus_without_captions_has_no_vocabulary():
    with pytest.raises(ConfigError, match="needs a corpus with written captions"):
        find_vocabulary("corpus")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ([[0, 1], [0, 2]], "once each"),
        ([[0, 1], [320, 2]], "lacks the special tokens"),
        ([[0, 1, 2]], r"must be \(V, 2\)"),
        ([[-1, 1], [49406, 1], [49407, 1], [0, 1]], "below 49408"),
    ],
)
def test_a_table_that_is_no_vocabulary_is_an_error(tmp_path, table, named: str):
    path = tmp_path / "vocab.npy"
    np.save(path, np.array(table))
    with pytest.raises(ConfigError, match=named):
        read_vocabulary(path)


def test_pickles_are_not_read(tmp_path):
    """Guards against code in an .npy file of objects."""
    path = tmp_path / "vocab.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot read the vocabulary"):
        read_vocabulary(path)
