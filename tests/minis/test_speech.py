"""The speech corpus: what is in it, what is kept out, and what lies on the disk."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis import sources
from s3prl_speechclip.minis.sets.quesst14_dtw import CALL_SIGNS
from s3prl_speechclip.minis.sets.stamps import normalised
from s3prl_speechclip.minis.synthesis import Voice, read_aloud
from s3prl_speechclip.minis.synthesis.voices import HELD_OUT_VOICES, VOICES, training_speakers
from s3prl_speechclip.minis.training import speech
from s3prl_speechclip.minis.training.speech import (
    PEAK,
    RECORDINGS,
    SAMPLES,
    SPLITS,
    Item,
    Recording,
    load,
    prepare,
)
from s3prl_speechclip.structures import SAMPLE_RATE

PROMPTS = ("Agent login.", "[this is a simple beep tone]", "Dial 1 to go on")


@pytest.fixture(scope="module")
def plan(corpus: Manifest) -> tuple[Item, ...]:
    return tuple(speech.readings(corpus, PROMPTS, CALL_SIGNS))


def file_item(path: Path, name: str = "") -> Item:
    about = Recording(
        recording_id=name or path.name, source="words read aloud", speaker="someone", split="train"
    )
    return Item(about, path)


def from_stamps(item: Item) -> bool:
    return item.about.source in (sources.STAMPS, "stamps read aloud")


def texts(plan: tuple[Item, ...], source: str) -> set[str]:
    return {item.about.text for item in plan if item.about.source == source}


def test_held_out_stamps_stay_out(corpus: Manifest, plan: tuple[Item, ...]):
    """Guards the retrieval tests against an encoder that has heard their recordings."""
    planned = speech.plan(None)
    heard = {item.sound for item in itertools.takewhile(from_stamps, planned)}
    kept_out = {corpus.path(u.audio) for u in corpus.utterances if u.split != "train"}
    assert heard
    # One file may serve two stamps of a component; the splits see to it that it stays in one.
    assert not heard & kept_out
    unseen = {normalised(u.caption) for u in corpus.utterances if u.split.endswith("_image")}
    assert (
        not {normalised(i.about.text) for i in plan if i.about.source == "stamps read aloud"}
        & unseen
    )


def test_held_out_voices_are_not_trained_on(plan: tuple[Item, ...]):
    """Guards the tests of unseen speakers, and the phone probe's."""
    trained = {item.about.speaker for item in plan if item.about.split in ("train", "dev")}
    assert not trained & set(HELD_OUT_VOICES)
    held_out = {VOICES[name].name.partition("+")[2] for name in HELD_OUT_VOICES} - {""}
    assert not {name.partition("+")[2] for name in trained} & held_out
    tested = {item.about.speaker for item in plan if item.about.split == "probe_test"}
    assert tested == {"flite-rms"}
    assert not tested & {item.about.speaker for item in plan if item.about.split != "probe_test"}


def test_probe_sentences_are_nowhere_else(plan: tuple[Item, ...]):
    """Guards the probe against features that know its sentences."""
    texts = {split: {i.about.text for i in plan if i.about.split == split} for split in SPLITS}
    for split in ("probe_train", "probe_test"):
        assert len(texts[split]) == speech.PROBE_SENTENCES[split]
        assert not texts[split] & set().union(*(texts[other] for other in SPLITS if other != split))


def test_a_plan_is_made_again(corpus: Manifest, plan: tuple[Item, ...]):
    """Guards against two corpora under one name, and against the same reading twice."""
    assert tuple(speech.readings(corpus, PROMPTS, CALL_SIGNS)) == plan
    assert len({item.about.recording_id for item in plan}) == len(plan)


def test_prompts_that_are_no_words_are_not_read(plan: tuple[Item, ...]):
    """Guards against voices that read a description of a tone."""
    assert {i.about.text for i in plan if i.about.source == "asterisk read aloud"} == {
        "Agent login."
    }


def test_every_speaker_can_be_heard():
    """Guards against an accent or variant that espeak-ng does not have."""
    for name, voice in training_speakers().items():
        assert np.abs(read_aloud("A red apple.", voice, ()).samples).max() > 1000, name


def test_noises_are_left_out(make_deb, empty_cache: Path):
    """Guards against grunts, tones and silence as speech."""
    voices = "usr/share/games/hedgewars/Data/Sounds/voices"
    names = ("Pirate/Hello", "Pirate/Ooff1", "Pirate/Jump2", "Pirate/Laugh", "Default_pl/Hello")
    packages = {
        sources.HEDGEWARS: {f"./{voices}/{name}.ogg": b"" for name in names},
        sources.ASTERISK: {
            f"./usr/share/asterisk/sounds/en_US_f_Allison/{name}.wav": b""
            for name in ("hello", "beep", "silence/1", "digits/1")
        },
        sources.TRANSCRIPTS: {
            f"./usr/share/doc/{sources.TRANSCRIPTS}/core-sounds-en.txt": (
                b"hello: Hello.\nbeep: [this is a simple beep tone]\ndigits/1: one\n"
            )
        },
    }
    for name, files in packages.items():
        archive = make_deb(files, name=name).parent
    spoken = [
        one for one in sources.hedgewars(archive) if not speech.NO_PHRASE.match(one.path.stem)
    ]
    assert [(one.path.stem, one.language) for one in spoken] == [("Hello", "pl"), ("Hello", "en")]
    assert [one.text for one in speech.spoken_prompts(archive)] == ["one", "Hello."]


def test_recordings_become_samples(tmp_path: Path, libraries: tuple[Path, ...]):
    """Guards start, length, loudness and rate of decoded and synthesised recordings."""
    quiet = 0.05 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "tone.wav", np.stack([quiet, quiet], 1), 44_100)
    flite = Voice(engine="flite", name="slt")
    about = Recording(
        recording_id="spoken",
        source="words read aloud",
        speaker="flite-slt",
        split="probe_train",
        text="red apple",
        synthetic=True,
    )
    spoken = Item(about, flite)
    (tmp_path / "corpus").mkdir()
    prepare([file_item(tmp_path / "tone.wav"), spoken], libraries, tmp_path / "corpus")
    corpus = load(tmp_path / "corpus")
    tone, reading = corpus.recordings
    assert (tone.start, tone.length, reading.start) == (0, SAMPLE_RATE, SAMPLE_RATE)
    assert len(corpus.samples) == tone.length + reading.length
    for index in range(2):
        assert np.abs(corpus.waveform(index)).max() == pytest.approx(PEAK, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(corpus.waveform(0)))
    assert spectrum.argmax() == 440
    assert [word.text for word in reading.words] == ["red", "apple"]
    assert [phone.symbol for phone in reading.phones][:3] == ["r", "eh", "d"]
    assert reading.phones[-1].end <= reading.length / SAMPLE_RATE + 1e-3


def test_what_cannot_be_used_is_counted(tmp_path: Path):
    """Guards against recordings that vanish without a word, and against any heard twice."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(tmp_path / "good.wav", noise, SAMPLE_RATE)
    soundfile.write(tmp_path / "twin.wav", noise, SAMPLE_RATE)
    soundfile.write(tmp_path / "short.wav", noise[:4000], SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), SAMPLE_RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    names = ("broken", "good", "twin", "short", "silent")
    (tmp_path / "corpus").mkdir()
    prepare([file_item(tmp_path / f"{n}.wav") for n in names], (), tmp_path / "corpus")
    corpus = load(tmp_path / "corpus")
    assert [r.recording_id for r in corpus.recordings] == ["good.wav"]
    assert set(corpus.notes) == {
        "left out: 1 recordings, broken",
        "left out: 1 recordings, shorter than 0.3 s",
        "left out: 1 recordings, silent",
        "left out: 1 recordings, the same samples as another",
        "left out as broken: broken.wav",
    }


def test_nothing_to_use_is_an_error(tmp_path: Path):
    """Guards against an empty corpus in the cache for ever."""
    with pytest.raises(CorpusError, match="no recording"):
        prepare([file_item(tmp_path / "missing.wav")], (), tmp_path)


@pytest.mark.parametrize("damage", ["samples", "rows", "missing", "field"])
def test_a_damaged_corpus_is_refused_in_one_line(tmp_path: Path, damage: str):
    """Guards training against samples that are not those of their rows."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 8000), SAMPLE_RATE)
    prepare([file_item(tmp_path / "a.wav")], (), tmp_path)
    if damage == "samples":
        (tmp_path / SAMPLES).write_bytes(b"\0" * 100)
    elif damage == "rows":
        (tmp_path / RECORDINGS).write_text('{"recording_id"', encoding="utf-8")
    elif damage == "missing":
        (tmp_path / SAMPLES).unlink()
    else:
        row = json.loads((tmp_path / RECORDINGS).read_text(encoding="utf-8"))
        (tmp_path / RECORDINGS).write_text(json.dumps({**row, "colour": 1}), encoding="utf-8")
    with pytest.raises(CorpusError, match="delete") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_split_names_those_there_are(tmp_path: Path):
    """Guards against training on nothing after a slip of the pen."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 8000), SAMPLE_RATE)
    prepare([file_item(tmp_path / "a.wav")], (), tmp_path)
    corpus = load(tmp_path)
    assert corpus.split("train") == (0,)
    with pytest.raises(CorpusError, match="no split 'trian'; it has: train"):
        corpus.split("trian")


def test_times_survive_the_disk(tmp_path: Path, libraries: tuple[Path, ...]):
    """Guards the probe's labels: only its own splits carry them, in their order."""
    about = Recording(
        recording_id="a",
        source="words read aloud",
        speaker="flite-rms",
        split="probe_test",
        text="owl",
        synthetic=True,
    )
    other = replace(about, recording_id="b", split="train", text="kite")
    rms = Voice(engine="flite", name="rms")
    prepare([Item(about, rms), Item(other, rms)], libraries, tmp_path)
    probe, train = load(tmp_path).recordings
    assert [phone.symbol for phone in probe.phones] == ["aw", "l"]
    assert not train.phones
    assert not train.words
