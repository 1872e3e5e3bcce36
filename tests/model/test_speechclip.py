"""SpeechClip: encoding, saving, loading."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from huggingface_hub import HfApi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import VOCABULARY, small_config, small_model, speech_batch, waveforms

from s3prl_speechclip import SpeechClip, read_audio
from s3prl_speechclip.checkpoints.native import StoredModel, read_checkpoint, write_checkpoint
from s3prl_speechclip.encoders.vocabulary import decode
from s3prl_speechclip.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    EncoderError,
    ImageError,
)
from s3prl_speechclip.hashing import state_hash
from s3prl_speechclip.model.config import VARIANTS, SpeechEncoderConfig
from s3prl_speechclip.modules.losses import repetition_loss
from s3prl_speechclip.pretrain.config import resolve_config
from s3prl_speechclip.structures import SpeechOutput

# Two paths through float32 attention over other padded lengths.
ORDER = 1e-5
# Published numbers of trained parameters, millions, each with half of its last digit's unit.
PUBLISHED = {"base": (2.75, 7.55), "large": (6.05, 13.45)}


@pytest.fixture(
    scope="module",
    params=[(v, f) for v in VARIANTS for f in ("base", "large")],
    ids=lambda pair: "-".join(pair),
)
def model(request: pytest.FixtureRequest) -> SpeechClip:
    variant, form = request.param
    return small_model(variant, f"hubert-{form}")


def assert_same(batched: SpeechOutput, row: int, alone: SpeechOutput) -> None:
    frames = int(alone.lengths[0])
    assert int(batched.lengths[row]) == frames
    for name, embedding in alone.embeddings.items():
        torch.testing.assert_close(batched.embeddings[name][row], embedding[0], atol=ORDER, rtol=0)
    for states, own in zip(batched.hidden_states, alone.hidden_states, strict=True):
        torch.testing.assert_close(states[row, :frames], own[0, :frames], atol=ORDER, rtol=0)
    if alone.keywords is not None:
        count = int(alone.keywords.lengths[0])
        assert int(batched.keywords.lengths[row]) == count
        assert torch.equal(batched.keywords.token_ids[row, :count], alone.keywords.token_ids[0])
        if alone.keywords.spans is not None:
            torch.testing.assert_close(
                batched.keywords.spans[row, :count], alone.keywords.spans[0], atol=1e-3, rtol=0
            )


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lengths=st.lists(st.integers(400, 12_000), min_size=2, max_size=4))
def test_a_batch_changes_no_utterance(model: SpeechClip, lengths: list[int]):
    """Guards `batch_invariant`: embeddings, hidden states, keywords and spans."""
    recordings = waveforms(*lengths)
    together = model.encode_speech(recordings)
    for row, recording in enumerate(recordings):
        assert_same(together, row, model.encode_speech([recording]))


def test_encoding_leaves_the_mode_alone():
    """Guards training loops that evaluate in between: dropout off inside, on again after."""
    model = small_model("speechclip_hybrid_plus").train()
    recordings = waveforms(6_000)
    first, second = (model.encode_speech(recordings).parallel for _ in range(2))
    assert torch.equal(first, second) and model.training
    assert not model.speech_encoder.training and not first.requires_grad


@pytest.mark.parametrize(
    ("recordings", "named"),
    [
        ([], "no recordings"),
        ([torch.zeros(2, 400)], r"recording 0 .*\(2, 400\)"),
        ([torch.zeros(400), torch.zeros(0)], "recording 1"),
        ([torch.zeros(400, dtype=torch.int16)], "int16"),
        ([np.zeros(400, dtype=np.int16)], "int16"),
        ([np.zeros(0, dtype=np.float32)], "recording 0"),
        (["no/speech.wav"], "'no/speech.wav' does not exist"),
        ("speech.wav", r"expected a list of recordings, such as \['speech.wav'\]"),
        ([[0.0, 0.1]], "found list"),
        ([None], "found NoneType"),
        (None, "expected a list of recordings"),
        ([torch.zeros(400), torch.full((400,), math.nan)], "recording 1 has samples that are NaN"),
        ([np.full(400, 1e39)], "recording 0 has samples that are NaN or infinite"),
    ],
)
def test_what_is_no_recording_is_named(recordings, named: str):
    with pytest.raises(AudioError, match=named):
        small_model("speechclip_parallel").encode_speech(recordings)


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f4"])
def test_numpy_arrays_are_recordings(kind):
    """Guards what soundfile returns, and arrays in the other byte order or with strides."""
    model = small_model("speechclip_parallel")
    (recording,) = waveforms(4_000)
    array = np.repeat(recording.numpy(), 2).astype(kind)[::2]
    expected = model.encode_speech([recording]).parallel
    assert torch.equal(model.encode_speech([array]).parallel, expected)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_files_are_recordings(tmp_path: Path, rate: int):
    """Guards the way from a file to keywords: read as `read_audio` does, at any sample rate."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((rate // 2, 2)), rate)
    model = small_model("speechclip_hybrid_plus")
    found = model.encode_speech([str(path), path, read_audio(path)])
    assert torch.equal(found.parallel[0], found.parallel[1])
    assert torch.equal(found.parallel[0], found.parallel[2])


@pytest.mark.parametrize("variant", ["speechclip_cascaded", "speechclip_plus"])
def test_keywords_have_their_words(variant: str):
    """Guards the text beside the ids: as many as there are keywords, and none of padding."""
    keywords = small_model(variant).encode_speech(waveforms(9_000, 40_000)).keywords
    for row, count in enumerate(keywords.lengths.tolist()):
        ids = keywords.token_ids[row, :count].tolist()
        assert keywords.words[row] == tuple(decode([token]) for token in ids)
        if keywords.spans is not None:
            assert float(keywords.spans[row, count - 1, 1]) <= (9_000, 40_000)[row] / 16_000


def test_captions_images_and_speech_share_a_space():
    model = small_model("speechclip_hybrid")
    found = [
        model.encode_text(["a dog"]),
        model.encode_images(torch.randn(1, 3, 16, 16)),
        model.encode_speech(waveforms(4_000)).cascaded,
    ]
    assert {embedding.shape for embedding in found} == {(1, 24)}
    for embedding in found:
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(1))


def test_what_is_no_caption_or_image_is_named():
    model = small_model("speechclip_parallel")
    captions = ["a dog", "a cat"]
    for several in (iter(captions), np.array(captions)):
        assert torch.equal(model.encode_text(several), model.encode_text(captions))
    for texts in ([], None, "a dog", [None]):
        with pytest.raises(ConfigError, match="expected a list of captions"):
            model.encode_text(texts)
    size = model.clip.preprocess()(Image.new("RGB", (9, 9))).shape
    for images, named in (
        (None, "expected a list of images"),
        ([Image.new("RGB", (9, 9))], "found a Image"),
        (torch.zeros(size), "expected finite pixels"),
        (torch.full((1, *size), math.nan), "expected finite pixels"),
    ):
        with pytest.raises(ImageError, match=named):
            model.encode_images(images)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batchinvariant": True}, "unknown option of from_pretrained 'batchinvariant'"),
        ({"batch_invariant": "false"}, "batch_invariant must be True or False, found 'false'"),
    ],
)
def test_an_option_that_loading_does_not_have_is_named(options, named: str):
    """Guards an option that is ignored: for official checkpoints it changes every embedding."""
    with pytest.raises(ConfigError, match=named):
        SpeechClip.from_pretrained("speechclip_parallel", **options)


def test_image_files_are_their_pixels(tmp_path: Path):
    """Guards the transform, and the order, of images that are given by path."""
    model = small_model("speechclip_parallel")
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path in paths:
        Image.new("RGB", (20, 30), path.stem).save(path)
    transform = model.clip.preprocess()
    pixels = torch.stack([transform(Image.open(path)) for path in paths])
    assert torch.equal(model.encode_images(paths), model.encode_images(pixels))
    with pytest.raises(ImageError, match="expected a list of images"):
        model.encode_images(str(paths[0]))
    with pytest.raises(ImageError, match="no images given"):
        model.encode_images([])
    for wrong in ("a dog", []):  # a text has letters, which are texts too
        with pytest.raises(ConfigError, match="expected a list of captions"):
            model.encode_text(wrong)


def test_objectives_are_weighted_by_the_configuration():
    """Guards the hybrid's two weights and the quantity loss's."""
    model = small_model("speechclip_hybrid_plus")
    output = model(speech_batch(9_000, 6_000))
    images = model.encode_images(torch.randn(2, 3, 16, 16))
    one = model.objective(output, images, torch.arange(2))
    weights = replace(model.config.objective, parallel_weight=0.5, cascaded_weight=1.5)
    model.config = replace(
        model.config, objective=weights, cif=replace(model.config.cif, quantity_weight=0.5)
    )
    other = model.objective(output, images, torch.arange(2))
    factors = {name: float((other[name] / one[name]).detach()) for name in one}
    assert factors == pytest.approx({"parallel": 0.5, "cascaded": 1.5, "quantity": 2.0})


def test_repeated_keywords_cost_what_the_configuration_says():
    """Guards the term against models without keywords, and evaluation, which has no soft choice."""
    ids = torch.arange(2)
    for variant, expected in (("speechclip_hybrid", True), ("speechclip_parallel", False)):
        model = small_model(variant).train()
        objective = replace(model.config.objective, repetition_weight=2.0)
        output = model(speech_batch(9_000, 6_000))
        images = model.encode_images(torch.randn(2, 3, 16, 16))
        assert "repetition" not in model.objective(output, images, ids)
        model.config = replace(model.config, objective=objective)
        losses = model.objective(output, images, ids)
        assert ("repetition" in losses) == expected
        if output.keywords is not None:
            share = repetition_loss(output.keywords.probabilities, output.keywords.lengths)
            torch.testing.assert_close(losses["repetition"], 2 * share)
        with torch.no_grad():
            evaluated = model.eval()(speech_batch(9_000, 6_000))
        assert "repetition" not in model.objective(evaluated, images, ids)


def test_weights_of_another_configuration_are_named():
    """Guards against random weights in place of missing ones."""
    stored = small_model("speechclip_hybrid").stored()
    for state, named in (
        ({k: v for k, v in stored.state.items() if k != "branch.cls"}, "missing .*branch.cls"),
        ({**stored.state, "branch.extra": torch.zeros(1)}, "unknown .*branch.extra"),
        ({**stored.state, "branch.cls": torch.zeros(1, 2, 32)}, "does not fit"),
    ):
        with pytest.raises(CheckpointError, match=named) as caught:
            SpeechClip.from_stored(StoredModel(stored.config, state))
        assert "\n" not in str(caught.value)


def test_a_frozen_encoder_that_is_named_is_found_again(tmp_path, monkeypatch):
    """Guards checkpoints that leave large encoders out, and the hash that recognises them."""
    folder = tmp_path / "hubert"
    source = small_model("speechclip_parallel")
    source.speech_encoder.model.save_pretrained(folder)
    named = replace(
        source.config.speech_encoder, name=str(folder), pretrained=True, architecture={}
    )
    monkeypatch.setattr("s3prl_speechclip.model.speechclip.INSIDE_LIMIT", 0)
    model = SpeechClip(replace(source.config, speech_encoder=named), VOCABULARY).eval()
    model.save_pretrained(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert set(about["encoders"]) == {"speech_encoder"}
    assert not any(name.startswith("speech_encoder.") for name in model.stored().state)

    again = SpeechClip.from_pretrained(tmp_path / "model")
    one, other = (m.encode_speech(waveforms(5_000)).parallel for m in (model, again))
    assert torch.equal(one, other)
    folder.rename(tmp_path / "moved")
    moved = SpeechClip.from_pretrained(tmp_path / "model", speech_encoder=str(tmp_path / "moved"))
    assert torch.equal(moved.encode_speech(waveforms(5_000)).parallel, one)

    small_model("speechclip_parallel", seed=5).speech_encoder.model.save_pretrained(
        tmp_path / "moved"
    )
    with pytest.raises(CheckpointError, match="trained with another speech_encoder"):
        SpeechClip.from_pretrained(tmp_path / "model", speech_encoder=str(tmp_path / "moved"))


def test_an_s3prl_encoder_is_named_and_found_again(tmp_path: Path):
    """Guards checkpoints on an upstream of s3prl, which cannot be built without its weights."""
    encoder = SpeechEncoderConfig(name="s3prl:speechclip_encoder")
    config = small_config("speechclip_parallel", speech_encoder=encoder)
    model = SpeechClip(config, VOCABULARY).eval()
    model.save_pretrained(tmp_path)
    assert set(read_checkpoint(tmp_path).encoders) == {"speech_encoder"}
    one, other = (
        m.encode_speech(waveforms(5_000, 3_000)).parallel
        for m in (model, SpeechClip.from_pretrained(tmp_path))
    )
    assert torch.equal(one, other)


def test_shipped_encoders_stay_outside_whatever_their_size(tmp_path, monkeypatch):
    """Guards the mini models that the package ships: small files, and never other encoders."""
    folder = tmp_path / "mini" / "hubert"
    for module in ("encoders.shipped", "model.speechclip"):
        monkeypatch.setattr(f"s3prl_speechclip.{module}.ASSETS", folder.parent)
    source = small_model("speechclip_parallel")
    source.speech_encoder.model.half().save_pretrained(folder)
    named = SpeechEncoderConfig(name="mini")
    model = SpeechClip(replace(source.config, speech_encoder=named), VOCABULARY).eval()
    write_checkpoint(tmp_path / "model", model.stored(), half=True)

    stored = read_checkpoint(tmp_path / "model")
    assert set(stored.encoders) == {"speech_encoder"}
    assert not any(name.startswith("speech_encoder.") for name in stored.state)
    again = SpeechClip.from_pretrained(tmp_path / "model")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    one, other = (m.encode_speech(waveforms(5_000)) for m in (model, again))
    assert torch.equal(one.hidden_states[0], other.hidden_states[0])
    # Matrices rounded by 2^-11 in one layer and a projection, of unit vectors.
    torch.testing.assert_close(one.parallel, other.parallel, atol=5e-3, rtol=0)

    small_model("speechclip_parallel", seed=5).speech_encoder.model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=f"another speech_encoder .*'{folder}'"):
        SpeechClip.from_pretrained(tmp_path / "model")


def test_a_folder_may_be_gone_when_its_weights_are_inside(tmp_path, monkeypatch):
    """Guards a small frozen encoder's checkpoint against needing the folder that it came from."""
    source = small_model("speechclip_parallel")
    source.speech_encoder.model.save_pretrained(tmp_path / "hubert")
    named = SpeechEncoderConfig(name=str(tmp_path / "hubert"))
    model = SpeechClip(replace(source.config, speech_encoder=named), VOCABULARY).eval()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "hubert").rename(tmp_path / "gone")
    again = SpeechClip.from_pretrained(tmp_path / "model")
    # Its CLIP may be one that the checkpoint only names, and which is loaded.
    apart = StoredModel(
        model.stored().config,
        {k: v for k, v in model.stored().state.items() if not k.startswith("clip.clip.")},
        {"clip": state_hash(model._weights_of("clip"))},
    )
    with monkeypatch.context() as patch:
        patch.setattr("s3prl_speechclip.model.speechclip.build_clip", lambda *_, **__: model.clip)
        SpeechClip.from_stored(apart)
    one, other = (m.encode_speech(waveforms(5_000)).parallel for m in (model, again))
    assert torch.equal(one, other)


def test_a_shipped_model_is_loaded_by_its_name():
    """Guards a user's first line."""
    model = SpeechClip.from_pretrained("speechclip_plus")
    assert (model.config.variant, model.config.size) == ("speechclip_plus", "mini")
    with pytest.raises(CheckpointError, match=r"'mini' is not one model: name one .*_hybrid_plus"):
        SpeechClip.from_pretrained("mini")


@pytest.mark.parametrize("own", [True, False])
def test_batch_invariance_is_the_checkpoints_unless_given(tmp_path, own: bool):
    """Guards official checkpoints against other features by default, and the way to override."""
    small_model("speechclip_hybrid", batch_invariant=own).save_pretrained(tmp_path)
    assert SpeechClip.from_pretrained(tmp_path).batch_invariant is own
    for value in (True, False):
        model = SpeechClip.from_pretrained(tmp_path, batch_invariant=value)
        assert model.batch_invariant is model.speech_encoder.batch_invariant is value


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_goes_without_the_branchs_frames(variant: str):
    """Guards the short cut of training and retrieval: the same embeddings and keywords.

    Attention of the first positions alone sums in another order.
    """
    model = small_model(variant)
    speech = speech_batch(9_000, 6_000)
    features = model.speech_encoder(speech)
    whole, short = model(speech), model(features, frames=False)
    assert len(short.hidden_states) == len(features.hidden_states) < len(whole.hidden_states)
    for name, embedding in whole.embeddings.items():
        torch.testing.assert_close(embedding, short.embeddings[name], atol=1e-6, rtol=0)
    if whole.keywords is not None:
        assert torch.equal(whole.keywords.token_ids, short.keywords.token_ids)


def test_what_is_neither_file_nor_on_the_hub_is_an_error_of_one_line():
    with pytest.raises(CheckpointError, match="no checkpoint 'no/such-model'") as caught:
        SpeechClip.from_pretrained("no/such-model", local_files_only=True)
    assert "\n" not in str(caught.value)


def test_a_push_uploads_what_loads_again(tmp_path, monkeypatch):
    """Guards push_to_hub as far as the network: the folder that would go up is a checkpoint."""
    uploaded = tmp_path / "uploaded"

    def keep(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, uploaded)
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo_id, **_: type("Repo", (), {"repo_id": repo_id})()
    )
    monkeypatch.setattr(HfApi, "upload_folder", keep)
    model = small_model("speechclip_plus")
    model.about = {"corpus": "stamps", "step": 7}
    model.push_to_hub("someone/speechclip-plus-small")
    assert {"config.json", "model.safetensors", "README.md"} <= {
        path.name for path in uploaded.iterdir()
    }
    again = SpeechClip.from_pretrained(uploaded)
    assert again.about == model.about
    one, other = (m.encode_speech(waveforms(5_000)).cascaded for m in (model, again))
    assert torch.equal(one, other)


def test_the_card_says_what_the_model_is(tmp_path):
    """Guards the generated card: header, architecture, corpus, recall, licence, use."""
    model = small_model("speechclip_hybrid_plus")
    model.save_pretrained(tmp_path / "unknown")
    card = (tmp_path / "unknown" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "other"
    model.about = {
        "corpus": "flickr8k",
        "recall": {"speech to image R@10": 41.25},
        "licence": "cc-by-4.0",
    }
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "s3prl_speechclip" and header["license"] == "cc-by-4.0"
    assert header["datasets"] == ["flickr8k"]
    for expected in (
        "Hybrid SpeechCLIP+",
        "41.2 %",
        f"{model.trainable_parameters():,}",
        "SpeechClip.from_pretrained(",
        "flickr8k",
    ):
        assert expected in card


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("variant", sorted(VARIANTS.keys() - {"speechclip_words"}))  # not published
def test_presets_have_the_published_number_of_trained_parameters(size: str, variant: str):
    """Guards base and large, built from configuration alone, here without memory for weights."""
    config = resolve_config(variant, size).model
    vocabulary = torch.arange(49_408, device="cpu")
    with torch.device("meta"):
        model = SpeechClip(config, vocabulary, weights=False)
    low, high = PUBLISHED[size]
    assert low <= model.trainable_parameters() / 1e6 <= high


@pytest.mark.parametrize(
    ("part", "option"), [("speech_encoder", "--hubert PATH"), ("clip", "--clip PATH")]
)
def test_offline_a_missing_encoder_says_how_to_provide_it(monkeypatch, part: str, option: str):
    """Guards the first minutes on a cluster node without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = small_config("speechclip_parallel")
    if part == "speech_encoder":
        named = replace(config.speech_encoder, name="no/such-hubert", pretrained=True)
        config = replace(config, speech_encoder=named)
    else:
        named = replace(config.clip, name="ViT-B-32", pretrained="laion400m_e31", architecture={})
        config = replace(config, clip=named)
    with pytest.raises(EncoderError, match=option) as caught:
        SpeechClip(config, VOCABULARY)
    assert named.name in str(caught.value) and "\n" not in str(caught.value)
