"""The speech corpus: what is in it, what is kept out, and what lies on the disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis import sources
from s3prl_speechclip.minis.sets.stamps import normalised
from s3prl_speechclip.minis.synthesis import Voice
from s3prl_speechclip.minis.synthesis.voices import HELD_OUT_VOICES, VOICES
from s3prl_speechclip.minis.training import speech
from s3prl_speechclip.minis.training.speech import LISTING, PEAK, SAMPLES, Item, load, prepare
from s3prl_speechclip.structures import SAMPLE_RATE

CALL_SIGNS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india")
PROMPTS = ("Agent login.", "[this is a simple beep tone]", "Dial 1 to go on")


@pytest.fixture(scope="module")
def plan(corpus: Manifest) -> tuple[Item, ...]:
    return tuple(speech.readings(corpus, PROMPTS, CALL_SIGNS))


def from_stamps(item: Item) -> bool:
    return item.source in (sources.STAMPS, "stamps read aloud")


def test_held_out_stamps_stay_out(corpus: Manifest, plan: tuple[Item, ...]):
    """Guards the retrieval tests against an encoder that was trained on their recordings."""
    taken = {item.sound for item in itertools.takewhile(from_stamps, speech.plan())}
    kept_out = {corpus.path(u.audio) for u in corpus.utterances if u.split != "train"}
    assert taken
    # One file may serve two stamps of a component; the splits see to it that it stays in one.
    assert not taken & kept_out
    unseen = {normalised(u.caption) for u in corpus.utterances if u.split.endswith("_image")}
    assert not {normalised(i.text) for i in plan if i.source == "stamps read aloud"} & unseen


def test_held_out_voices_are_not_trained_on(plan: tuple[Item, ...]):
    """Guards the tests of unseen speakers, and the word probe's."""
    trained = {item.speaker for item in plan}
    assert not trained & set(HELD_OUT_VOICES)
    held_out = {VOICES[name].name.partition("+")[2] for name in HELD_OUT_VOICES} - {""}
    assert not {name.partition("+")[2] for name in trained} & held_out


def test_a_plan_is_made_again(corpus: Manifest, plan: tuple[Item, ...]):
    """Guards against two corpora under one name, the same reading twice, and prompts that are no
    words."""
    assert tuple(speech.readings(corpus, PROMPTS, CALL_SIGNS)) == plan
    assert len({item.recording_id for item in plan}) == len(plan)
    assert {i.text for i in plan if i.source == "asterisk read aloud"} == {"Agent login."}


def test_recordings_become_samples(tmp_path: Path, libraries: tuple[Path, ...], caplog):
    """Guards start, length, loudness and rate of what is decoded and read aloud, and against
    recordings that vanish without a word, or are there twice."""
    quiet = 0.05 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "tone.wav", np.stack([quiet, quiet], 1), 44_100)
    soundfile.write(tmp_path / "twin.wav", np.stack([quiet, quiet], 1), 44_100)
    soundfile.write(tmp_path / "short.wav", quiet[:4000], SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), SAMPLE_RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    names = ("broken", "tone", "twin", "short", "silent")
    items = [Item(name, "words", "someone", tmp_path / f"{name}.wav") for name in names]
    items.append(Item("spoken", "words", "slt", Voice(engine="flite", name="slt"), "red apple"))
    with caplog.at_level("INFO"):
        prepare(items, libraries, tmp_path)
    corpus = load(tmp_path)
    assert corpus.recordings["recording_id"].tolist() == ["tone", "spoken"]
    assert corpus.starts.tolist() == [0, SAMPLE_RATE]
    assert len(corpus.samples) == corpus.lengths.sum() > 1.3 * SAMPLE_RATE
    for index in range(2):
        assert np.abs(corpus.waveform(index)).max() == pytest.approx(PEAK, abs=1e-3)
    assert np.abs(np.fft.rfft(corpus.waveform(0))).argmax() == 440
    for reason in ("broken", "shorter than 0.3 s", "silent", "the same samples as another"):
        assert f"left out: 1 recordings, {reason}" in caplog.text


@pytest.mark.parametrize("damaged", [SAMPLES, LISTING])
def test_a_damaged_corpus_is_refused_in_one_line(tmp_path: Path, damaged: str):
    """Guards training against samples that are not those of their rows, or none for ever."""
    with pytest.raises(CorpusError, match="no recording"):
        prepare([Item("a", "words", "someone", tmp_path / "missing.wav")], (), tmp_path)
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 8000), SAMPLE_RATE)
    prepare([Item("a", "words", "someone", tmp_path / "a.wav")], (), tmp_path)
    (tmp_path / damaged).write_bytes(b"\0" * 100)
    with pytest.raises(CorpusError, match="delete") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
