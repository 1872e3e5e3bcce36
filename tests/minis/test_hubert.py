"""Masked prediction of units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3prl_speechclip.encoders.speech import SpeechEncoder
from s3prl_speechclip.minis.training.crops import CROPS, MaskedCrops, MaskingConfig, draw_mask
from s3prl_speechclip.minis.training.hubert import (
    HubertRecipe,
    MaskedPrediction,
    RoundConfig,
    build_hubert,
    ship_hubert,
    train_hubert,
)
from s3prl_speechclip.minis.training.units import frames_of, make_units, mfcc
from s3prl_speechclip.structures import SpeechBatch


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(2, 60), st.integers(0, 99), st.floats(0.0, 0.9))
def test_every_row_has_masked_and_unmasked_frames(size, frames, seed, probability):
    """Guards both losses' means against rows, and so batches, with nothing in them."""
    mask = draw_mask(
        size, frames, MaskingConfig(probability=probability), np.random.default_rng(seed)
    )
    assert mask.shape == (size, frames)
    assert mask.any(1).all()
    assert not mask.all(1).any()


def test_crops_hold_whole_frames():
    """Guards the alignment of units and frames: a crop's frames are those of the recording."""
    assert all((crop - 400) % 320 == 0 for crop in CROPS)


@pytest.fixture(scope="module")
def units(small_speech, tmp_path_factory):
    return make_units(small_speech, mfcc, 12, tmp_path_factory.mktemp("units") / "u")


def test_a_frame_has_one_unit(small_speech, units):
    """Guards against units that drift from the frames that HuBERT makes."""
    encoder = SpeechEncoder(build_hubert(), normalize_waveform=True)
    for index, recording in enumerate(small_speech.recordings[:3]):
        waveform = torch.from_numpy(small_speech.waveform(index))
        batch = SpeechBatch(waveform[None], torch.tensor([len(waveform)]))
        assert int(encoder(batch).lengths) == frames_of(recording.length)
        begins, ends = units.offsets[index : index + 2]
        assert ends - begins == frames_of(recording.length)
    assert units.offsets[-1] == len(units.labels)


def test_like_sounds_share_a_unit(small_speech, units):
    """Guards clustering against labels in another order than the frames: a recording that is
    there twice has the same units twice."""
    first, second = 0, 1
    length = frames_of(small_speech.recordings[first].length)
    assert np.array_equal(units.of(first, 0, length), units.of(second, 0, length))
    assert len(set(units.of(first, 0, length).tolist())) > 1


def test_a_batch_is_a_function_of_its_step(small_speech, units):
    """Guards resuming: what a step reads must not depend on the steps before it."""
    crops = MaskedCrops(small_speech, units, MaskingConfig(), 3.0)
    for one, other in zip(crops.batch(5), crops.batch(5), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(crops.batch(5)[0], crops.batch(6)[0])


def test_units_are_learned(small_speech, units):
    """Guards the objective: one batch can be learned by heart, its masked frames from context."""
    torch.manual_seed(0)
    task = MaskedPrediction(build_hubert(), units.count, MaskingConfig())
    batch = MaskedCrops(small_speech, units, MaskingConfig(), 2.0).batch(0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    for _ in range(50):
        output = task(*batch)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert output.report["accuracy_unmasked"] > 0.5  # chance: a twelfth
    assert output.report["accuracy_masked"] > 0.3


def test_what_ships_is_what_was_trained(tmp_path):
    """Guards the shipped folder: transformers reads it whole, and float16 is all that is lost."""
    from transformers import HubertModel

    torch.manual_seed(1)
    model = build_hubert().eval()
    loaded = HubertModel.from_pretrained(ship_hubert(model, tmp_path), dtype=torch.float32).eval()
    waveform = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = model(waveform), loaded(waveform)
    # float16 keeps 11 bits: a relative error of 5e-4 a weight.
    assert torch.allclose(wanted.last_hidden_state, found.last_hidden_state, atol=2e-2)


def test_rounds_follow_one_another(small_speech, tmp_path):
    """Guards the way from MFCC units to units of hidden states, and that a finished run is kept."""
    rounds = (
        RoundConfig(steps=2, units=6, batch_seconds=2.0),
        RoundConfig(steps=2, units=4, layer=2, batch_seconds=2.0),
    )
    recipe = HubertRecipe(spectral_steps=1, rounds=rounds)
    trained = train_hubert(small_speech, recipe, tmp_path, "cpu")
    assert set(trained.accuracy) == {"accuracy_masked", "accuracy_unmasked"}
    again = train_hubert(small_speech, recipe, tmp_path, "cpu")
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
