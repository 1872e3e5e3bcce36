"""Probes: what they measure, on readings whose phones are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel

from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import CorpusError, EncoderError
from s3prl_speechclip.minis.sets.quesst14_dtw import CALL_SIGNS
from s3prl_speechclip.minis.synthesis import fetch_libraries, read_aloud
from s3prl_speechclip.minis.synthesis.voices import VOICES
from s3prl_speechclip.minis.training.probe import (
    cluster_quality,
    evaluate_hubert,
    linear_probe,
    phone_probe,
    phrase_probe,
    phrase_recordings,
    same_voices,
    spectral_frames,
)
from s3prl_speechclip.minis.training.speech import Item, Recording, SpeechCorpus, load, prepare
from s3prl_speechclip.results import read_result, write_result

SENTENCES = tuple(" ".join(np.random.default_rng(k).choice(CALL_SIGNS, 5)) for k in range(26))
PHRASES = ("come on then", "take cover", "goodbye")
SPEAKERS = ("flite-slt", "flite-kal16", "flite-awb", "flite-rms", "espeak-en-us")

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SpeechCorpus:
    folder = tmp_path_factory.mktemp("speech")
    items = [
        item(text, SPEAKERS[number % 3], "probe_train")
        for number, text in enumerate(SENTENCES[:-6])
    ]
    items += [item(text, "flite-rms", "probe_test") for text in SENTENCES[-6:]]
    items += [item(text, speaker, "train", text) for text in PHRASES for speaker in SPEAKERS]
    prepare(items, fetch_libraries(), folder)
    return load(folder)


def item(text: str, voice: str, split: str, phrase: str = "") -> Item:
    about = Recording(
        recording_id=f"{split}/{voice}/{text}",
        source="words read aloud",
        speaker=voice,
        split=split,
        text=text,
        phrase=phrase,
        synthetic=True,
    )
    return Item(about, VOICES[voice])


@pytest.fixture(scope="module")
def spectra(corpus: SpeechCorpus) -> dict[str, dict[int, np.ndarray]]:
    found = spectral_frames([corpus.waveform(i) for i in range(len(corpus.recordings))])
    return {name: dict(enumerate(frames)) for name, frames in found.items()}


def unseen_voice(frames, corpus: SpeechCorpus) -> dict[str, float]:
    return phone_probe(frames, corpus, corpus.split("probe_train"), corpus.split("probe_test"))


def test_spectra_beat_noise(corpus: SpeechCorpus, spectra):
    """Guards labels and features against drifting apart: nothing would then beat anything."""
    random = np.random.default_rng(0)
    noise = {
        i: random.standard_normal(frames.shape).astype(np.float32)
        for i, frames in spectra["log_mel"].items()
    }
    heard, guessed = unseen_voice(spectra["log_mel"], corpus), unseen_voice(noise, corpus)
    assert heard["frame_accuracy"] > 2 * guessed["frame_accuracy"]
    assert heard["phone_error"] < guessed["phone_error"] - 10
    assert heard["pnmi"] > guessed["pnmi"]


def test_labels_are_at_their_frames(corpus: SpeechCorpus, spectra):
    """Guards the times: features that come 100 ms late tell fewer phones."""
    late = {i: np.roll(frames, 5, axis=0) for i, frames in spectra["log_mel"].items()}
    at_once, later = unseen_voice(spectra["log_mel"], corpus), unseen_voice(late, corpus)
    assert at_once["frame_accuracy"] > later["frame_accuracy"] + 5


def test_perfect_features_are_told_perfectly(corpus: SpeechCorpus):
    """Guards the figures' ends: features that spell the phone have no error and full purity."""
    names = sorted({p.symbol for r in corpus.recordings for p in r.phones})
    spelled = {}
    for split in ("probe_train", "probe_test"):
        for index in corpus.split(split):
            recording = corpus.recordings[index]
            frames = np.zeros(((recording.length - 400) // 320 + 1, len(names)), np.float32)
            for frame in range(len(frames)):
                middle = (320 * frame + 200) / 16_000
                for phone in recording.phones:
                    if phone.start <= middle < phone.end:
                        frames[frame, names.index(phone.symbol)] = 1.0
            spelled[index] = frames
    known = {p.symbol for i in corpus.split("probe_train") for p in corpus.recordings[i].phones}
    assert {p.symbol for i in corpus.split("probe_test") for p in corpus.recordings[i].phones} <= (
        known
    )
    found = unseen_voice(spelled, corpus)
    assert found["frame_accuracy"] == 100.0
    assert found["phone_error"] == 0.0
    assert found["purity"] > 95
    assert found["pnmi"] > 95


def test_the_same_voices_say_other_sentences(corpus: SpeechCorpus):
    """Guards the second phone probe: every training voice is tested, on nothing trained on."""
    train, test = same_voices(corpus)
    assert not set(train) & set(test)
    assert sorted((*train, *test)) == list(corpus.split("probe_train"))
    voices = {corpus.recordings[i].speaker for i in corpus.split("probe_train")}
    assert {corpus.recordings[i].speaker for i in test} == voices


def test_probes_are_repeated_exactly(corpus: SpeechCorpus, spectra):
    """Guards published figures against a draw of numbers."""
    assert unseen_voice(spectra["mfcc"], corpus) == unseen_voice(spectra["mfcc"], corpus)
    assert phrase_probe(spectra["mfcc"], corpus) == phrase_probe(spectra["mfcc"], corpus)


def test_phrases_are_told_across_speakers(corpus: SpeechCorpus, spectra):
    """Guards the folds: features that name the speaker alone tell no phrase."""
    indices = phrase_recordings(corpus)
    assert len(indices) == len(PHRASES) * len(SPEAKERS)
    speakers = sorted(SPEAKERS)
    named = {
        i: np.eye(len(speakers), dtype=np.float32)[
            [speakers.index(corpus.recordings[i].speaker)] * 3
        ]
        for i in indices
    }
    assert phrase_probe({i: spectra["mfcc"][i] for i in indices}, corpus)["accuracy"] > 70
    assert phrase_probe(named, corpus)["accuracy"] < 70


def test_cluster_quality_is_its_definition():
    """Guards purity and mutual information with a table counted by hand."""
    clusters = np.array([0, 0, 0, 1, 1, 1])
    labels = np.array(["a", "a", "b", "b", "b", "b"])
    purity, shared = cluster_quality(clusters, labels)
    assert purity == pytest.approx(5 / 6)
    entropy = -(2 / 6 * np.log(2 / 6) + 4 / 6 * np.log(4 / 6))
    within = 0.5 * -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert shared == pytest.approx((entropy - within) / entropy)
    assert cluster_quality(clusters, np.array(["a"] * 6)) == (1.0, 0.0)


def test_a_probe_refuses_what_it_cannot_learn_from():
    """Guards figures against NaN features and a single label."""
    features = np.ones((4, 2), np.float32)
    with pytest.raises(CorpusError, match="two labels"):
        linear_probe(features, np.array(["a"] * 4), features)
    broken = np.full((4, 2), np.nan, np.float32)
    with pytest.raises(CorpusError, match="NaN"):
        linear_probe(broken, np.array(list("abab")), broken)


def test_a_network_is_probed_whole(corpus: SpeechCorpus, tmp_path: Path):
    """Guards the result: every layer, trained and untrained, beside spectra and chance."""
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TINY)).half().save_pretrained(tmp_path / "hubert")
    result = evaluate_hubert(tmp_path / "hubert", corpus, stamps(tmp_path / "stamps"))
    layers = {f"{kind}/layer_{k}" for kind in ("trained", "untrained") for k in range(3)}
    for task in ("phones", "phrases", "words"):
        assert set(result.metrics[task]) == {"mfcc", "mfcc_context", "log_mel", *layers}
        assert 0 < result.metrics["chance"][task] < 100
    assert result.mini
    assert read_result(write_result(result, tmp_path / "result.json")) == result
    with pytest.raises(EncoderError, match="holds no model.safetensors"):
        evaluate_hubert(tmp_path, corpus, stamps(tmp_path / "stamps"))


def stamps(root: Path) -> Manifest:
    """Write captions read aloud, a few of which training never sees."""
    captions = {
        "a red bird": "train",
        "a red boat": "train",
        "the green bird": "train",
        "the green boat": "train",
        "the red boat": "test_image",
        "a green bird": "test_image",
    }
    root.mkdir(exist_ok=True)
    utterances = []
    for caption, split in captions.items():
        for voice in ("flite-slt", "flite-rms"):
            reading = read_aloud(caption, voice, fetch_libraries())
            soundfile.write(root / f"{caption}-{voice}.wav", reading.samples, reading.sample_rate)
            held_out = split == "train" and voice == "flite-rms"
            utterances.append(
                Utterance(
                    utterance_id=f"{caption}/{voice}",
                    audio=f"{caption}-{voice}.wav",
                    image="",
                    pair_id=0,
                    text=caption,
                    caption=caption,
                    speaker=voice,
                    synthetic=True,
                    split="test_speaker" if held_out else split,
                    words=reading.words,
                )
            )
    return Manifest(corpus="stamps", root=root, utterances=tuple(utterances))
