"""The word probe, on readings whose words are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel

from s3prl_speechclip.benchmarks.leaderboard.sections import probe_figures
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import EncoderError
from s3prl_speechclip.minis.synthesis import fetch_libraries, read_aloud
from s3prl_speechclip.minis.synthesis.voices import VOICES
from s3prl_speechclip.minis.training.evaluation import evaluate_hubert, word_probe
from s3prl_speechclip.results import read_result, write_result

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
CAPTIONS = {
    "a red bird": "train",
    "a red boat": "train",
    "the green bird": "train",
    "the green boat": "train",
    "the red boat": "test_image",
    "a green bird": "test_image",
}


def stamps(root: Path) -> Manifest:
    """Write captions read aloud, a few of which training never sees."""
    root.mkdir(exist_ok=True)
    utterances = []
    for caption, split in CAPTIONS.items():
        for voice in ("flite-slt", "flite-rms"):
            reading = read_aloud(caption, VOICES[voice], fetch_libraries())
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


def test_a_network_is_probed_whole(tmp_path: Path):
    """Guards the result: every layer, beside MFCC and chance."""
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TINY)).half().save_pretrained(tmp_path / "hubert")
    result = evaluate_hubert(tmp_path / "hubert", stamps(tmp_path / "stamps"))
    assert set(result.metrics["words"]) == {"mfcc", *(f"trained/layer_{k}" for k in range(3))}
    assert result.metrics["chance"]["words"] == 20
    assert [f for f in probe_figures(result) if f.keys[-1] in ("accuracy", "words")]
    assert result.mini
    assert read_result(write_result(result, tmp_path / "result.json")) == result
    with pytest.raises(EncoderError):
        evaluate_hubert(tmp_path, stamps(tmp_path / "stamps"))


def test_words_weigh_alike_in_class_accuracy():
    """Guards both figures against each other, on features that name all words but one."""
    features, words = np.eye(3, dtype=np.float32), np.array(["owl", "frog", "bird"])
    tested, expected = features[[0, 0, 0, 2, 2]], np.array(["owl", "owl", "owl", "frog", "bird"])
    found = word_probe((features, words), (tested, expected))
    assert found["accuracy"] == pytest.approx(80)
    assert found["class_accuracy"] == pytest.approx(200 / 3)
