"""The mini set of ZeroSpeech's semantic part."""

from __future__ import annotations

from collections import defaultdict

import pytest
import soundfile

from s3prl_speechclip.data.corpora.zerospeech import (
    NATURAL,
    SPLITS,
    SYNTHETIC,
    ZeroSpeech,
    load_semantic,
    read_gold,
    read_pairs,
)
from s3prl_speechclip.minis.sets.zerospeech import RATED, RECORDED, VOICES, scored_pairs


@pytest.fixture(scope="module")
def made() -> ZeroSpeech:
    """The mini set; made where it is not in the cache."""
    return load_semantic()


def test_the_lists_are_whole() -> None:
    """Guards the pairs: two of WordSim-353 are there twice, one of SimLex-999."""
    counts = [len(scored_pairs(name)) for name in (*RATED, *RECORDED)]
    assert counts == [351, 998, 635, 606, 802]


def test_the_mini_set_is_as_its_tables_say(made: ZeroSpeech) -> None:
    """Guards against tables that name what was not made, and files that nothing names."""
    assert made.mini
    for name in SPLITS:
        split = made.split(name)
        paths = split.recordings()
        assert len(paths) == len(set(paths.values())) > 1000
        assert {*split.folder.rglob("*.wav")} == {*paths.values()}
        assert soundfile.info(next(iter(paths.values()))).samplerate == 16_000
        compared = {(p.type, w) for p in read_pairs(split.pairs) for w in (p.word_1, p.word_2)}
        assert compared == {(token.type, token.word) for token in read_gold(split.gold)}


def test_no_word_is_in_dev_and_test(made: ZeroSpeech) -> None:
    """Guards the choice on dev against having heard the words of test."""
    dev, test = ({t.word for t in read_gold(made.split(name).gold)} for name in SPLITS)
    assert not dev & test


def test_natural_words_are_compared_within_a_package(made: ZeroSpeech) -> None:
    """Guards against distances between speakers that pass for distances of meaning."""
    for name in SPLITS:
        packages = defaultdict(set)
        for token in read_gold(made.split(name).gold):
            if token.type == NATURAL:
                packages[token.word].add(token.filename.removesuffix(f"-{token.word}-0"))
        natural = [p for p in read_pairs(made.split(name).pairs) if p.type == NATURAL]
        assert len({pair.dataset for pair in natural}) == 3
        for pair in natural:
            for word in (pair.word_1, pair.word_2):
                assert pair.dataset in packages[word]
                assert all(found.startswith(pair.dataset) for found in packages[word])


def test_every_voice_says_every_word(made: ZeroSpeech) -> None:
    """Guards the mean over voices against other voices for other words."""
    voices = defaultdict(set)
    for token in read_gold(made.split("test").gold):
        if token.type == SYNTHETIC:
            voices[token.word].add(token.voice)
    assert all(found == set(VOICES) for found in voices.values())
