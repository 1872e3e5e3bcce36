"""The readers that s3prl's `ctc` task imports from here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3prl_speechclip.downstream import compat
from s3prl_speechclip.downstream.ctc_corpora import LibriDataset
from s3prl_speechclip.downstream.settings import config_folder
from s3prl_speechclip.downstream.tasks.libriphone import LibriPhoneDataset
from s3prl_speechclip.downstream.tasks.snips import SnipsDataset
from s3prl_speechclip.errors import CorpusError

Write = Callable[[str], Path]


def tokenizer(mode: str, vocabulary: str, slots: Path | None = None) -> Any:
    compat.apply()
    from s3prl.downstream.ctc.text import load_text_encoder

    return load_text_encoder(mode, str(config_folder() / "vocab" / vocabulary), slots)


@pytest.fixture
def phones() -> Any:
    return tokenizer("word", "phoneme.txt")


def libriphone(root: Path, phones: Any, split: str = "train-clean-100", bucket: int = 1) -> Any:
    lexicon = [str(root / "librispeech-lexicon.txt")]
    return LibriPhoneDataset([split], phones, bucket, path=str(root), lexicon=lexicon)


def test_vocabularies_have_s3prls_sizes(phones):
    """Guards checkpoints of s3prl's, whose heads have these sizes."""
    assert phones.vocab_size == 74
    assert tokenizer("character", "character.txt").vocab_size == 31


def test_phones_are_those_of_the_first_pronunciation(write_corpus: Write, phones):
    data = libriphone(write_corpus("libriphone"), phones, "dev-clean")
    said = {path.stem: phones.decode(tokens) for path, tokens in data.entries}
    assert said == {"2-1-0000": "AH0 D AO1 G", "2-1-0001": "AH0 B ER1 D"}


def test_buckets_hold_texts_of_like_length(write_corpus: Write, phones):
    """Guards s3prl's contract: the longest first, an item a bucket, the last one whole."""
    data = libriphone(write_corpus("libriphone"), phones, bucket=2)
    lengths = [len(tokens) for _, tokens in data.entries]
    assert len(data) == 6 and lengths == sorted(lengths, reverse=True)
    assert data[1] == data.entries[1:3]
    assert data[5] == data.entries[4:6]


def test_a_word_without_pronunciation_is_named(write_corpus: Write, phones):
    root = write_corpus("libriphone")
    lexicon = root / "librispeech-lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace("DOG", "CAT"))
    with pytest.raises(CorpusError, match=r"1 words of dev-clean are in no lexicon \(DOG\)"):
        libriphone(root, phones, "dev-clean")


def test_a_phone_out_of_the_vocabulary_is_an_error(write_corpus: Write, phones):
    """Guards against phones that are learned as unknown."""
    root = write_corpus("libriphone")
    lexicon = root / "librispeech-lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace("AO1", "O1"))
    with pytest.raises(CorpusError, match="not in the vocabulary"):
        libriphone(root, phones, "dev-clean")


def test_a_recording_without_transcript_is_named(write_corpus: Write):
    root = write_corpus("asr")
    (root / "dev-clean" / "2" / "1" / "2-1.trans.txt").write_text("2-1-0000 A DOG\n")
    with pytest.raises(CorpusError, match=r"2-1-0001.flac' has no transcript"):
        LibriDataset(["dev-clean"], tokenizer("character", "character.txt"), 1, path=str(root))


def snips(root: Path, split: str, speakers: list[str] | None) -> SnipsDataset:
    slots = tokenizer("character-slot", "character.txt", root / "slots.txt")
    return SnipsDataset([split], slots, 1, path=str(root), **{f"{split}_speakers": speakers})


def test_slots_are_marked_around_their_words(write_corpus: Write):
    """Guards what s3prl's slot metrics read: B-slot word E-slot."""
    root = write_corpus("snips")
    slots = tokenizer("character-slot", "character.txt", root / "slots.txt")
    data = snips(root, "valid", ["Amy"])
    said = {path.stem: slots.decode(tokens) for path, tokens in data.entries}
    assert said["Amy-snips-valid-0"] == "PLAY B-artist ABBA E-artist"
    assert said["Amy-snips-valid-1"] == "PLAY B-city BONN E-city"


def test_speakers_belong_to_their_split(write_corpus: Write):
    with pytest.raises(CorpusError, match="of Joey"):
        snips(write_corpus("snips"), "valid", ["Joey"])


def test_a_line_of_another_form_is_shown(write_corpus: Write):
    root = write_corpus("snips")
    (root / "all.iob.snips.txt").write_text("Amy-snips-valid-0 BOS PLAY EOS\tO x\n")
    with pytest.raises(CorpusError, match="line 1: expected"):
        snips(root, "valid", None)
