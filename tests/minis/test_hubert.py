"""Masked prediction of units: units, crops, voices, the loop and the rounds."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers import HubertModel

from s3prl_speechclip.encoders.speech import SpeechEncoder
from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.minis.training.hubert import (
    HubertRecipe,
    MaskedPrediction,
    RoundConfig,
    build_hubert,
    ship_hubert,
    train_hubert,
)
from s3prl_speechclip.minis.training.loop import STATE_FILE, train
from s3prl_speechclip.minis.training.units import (
    CROPS,
    MaskedCrops,
    draw_mask,
    frames_of,
    make_units,
    mfcc,
    played,
    source_frames,
)
from s3prl_speechclip.runtime.optimization import OptimizerConfig, SchedulerConfig
from s3prl_speechclip.structures import HOP, SAMPLE_RATE, WINDOW, SpeechBatch, StepOutput


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(2, 60), st.integers(0, 99), st.floats(0.0, 0.9))
def test_every_row_has_masked_and_unmasked_frames(size, frames, seed, probability):
    """Guards both losses' means against rows, and so batches, with nothing in them."""
    mask = draw_mask(size, frames, np.random.default_rng(seed), probability)
    assert mask.shape == (size, frames)
    assert mask.any(1).all()
    assert not mask.all(1).any()


@pytest.fixture(scope="module")
def units(small_speech, tmp_path_factory):
    return make_units(small_speech, mfcc, 12, tmp_path_factory.mktemp("units") / "u")


def test_a_frame_has_one_unit(small_speech, units):
    """Guards against units that drift from the frames that HuBERT makes, in crops too."""
    encoder = SpeechEncoder(build_hubert(), normalize_waveform=True)
    for index in range(3):
        waveform = torch.from_numpy(small_speech.waveform(index))
        batch = SpeechBatch(waveform[None], torch.tensor([len(waveform)]))
        assert int(encoder(batch).lengths) == len(units[index]) == frames_of(len(waveform))
    assert all((crop - WINDOW) % HOP == 0 for crop in CROPS)


def test_like_sounds_share_a_unit(small_speech, units):
    """Guards clustering against labels in another order than the frames: a recording that is
    there twice has the same units twice."""
    assert np.array_equal(units[0], units[1])
    assert len(set(units[0].tolist())) > 1


@pytest.mark.parametrize("changed", [False, True])
def test_a_batch_is_a_function_of_its_step(small_speech, units, changed):
    """Guards resuming: what a step reads must not depend on the steps before it."""
    crops = MaskedCrops(small_speech, units, 3.0, changed=changed)
    waveforms, labels, masked = crops.batch(5)
    assert waveforms.isfinite().all() and waveforms.dtype == torch.float32
    assert labels.shape == masked.shape == (len(waveforms), frames_of(waveforms.shape[1]))
    for one, other in zip(crops.batch(5), crops.batch(5), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(waveforms, crops.batch(6)[0])


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_playing_faster_raises_the_pitch_and_moves_the_frames(speed):
    """Guards the direction, and units against drifting from a recording that is played faster."""
    tone = np.sin(2 * np.pi * 400 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(played(tone, speed, SAMPLE_RATE)))
    assert int(spectrum.argmax()) == pytest.approx(400 * speed, abs=1)
    frames = frames_of(SAMPLE_RATE)
    for frame in (3, 20, 40):
        samples = np.zeros(3 * SAMPLE_RATE)
        centre = round((frame * HOP + WINDOW / 2) * speed)
        samples[centre] = 1
        click = int(np.abs(played(samples, speed, SAMPLE_RATE)).argmax())
        assert abs(click - (frame * HOP + WINDOW / 2)) <= 1
        source = source_frames(frames, speed, frames_of(len(samples)))[frame]
        assert abs(source * HOP + WINDOW / 2 - centre) <= HOP / 2
    assert source_frames(10, speed, 8).max() == 7


def test_units_are_learned(small_speech, units):
    """Guards the objective: one batch can be learned by heart, its masked frames from context."""
    torch.manual_seed(0)
    task = MaskedPrediction(build_hubert(), 12)
    batch = MaskedCrops(small_speech, units, 2.0).batch(0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    for _ in range(50):
        output = task(*batch)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert output.report["accuracy_unmasked"] > 0.5  # chance: a twelfth
    assert output.report["accuracy_masked"] > 0.3


def test_rounds_follow_one_another_and_ship(small_speech, tmp_path):
    """Guards the way from MFCC units to units of hidden states, that a finished run is kept, and
    the shipped folder: transformers reads it whole, and float16 is all that is lost."""
    rounds = (RoundConfig(steps=2, units=6), RoundConfig(steps=2, units=4, layer=2, changed=True))
    recipe = HubertRecipe(spectral_steps=1, batch_seconds=2.0, rounds=rounds)
    trained = train_hubert(small_speech, recipe, tmp_path / "run", "cpu")
    again = train_hubert(small_speech, recipe, tmp_path / "run", "cpu")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    folder = ship_hubert(again, tmp_path / "shipped")
    loaded = HubertModel.from_pretrained(folder, dtype=torch.float32).eval()
    waveform = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = trained(waveform), loaded(waveform)
    # float16 keeps 11 bits: a relative error of 5e-4 a weight.
    assert torch.allclose(wanted.last_hidden_state, found.last_hidden_state, atol=2e-2)


def run(folder, stop_at: int | None = None) -> nn.Module:
    """Train a small regression for 230 steps; a signal arrives in step `stop_at`."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(step: int) -> StepOutput:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return StepOutput({"error": F.mse_loss(module(inputs)[:, 0], inputs.sum(1))})

    schedule = SchedulerConfig(warmup_steps=4)
    train(module, losses, 230, OptimizerConfig(lr=0.03), schedule, folder, precision="fp32")
    assert float(losses(999).loss.detach()) < 1.0  # 4 before training, the inputs' variance
    return module


def test_a_stopped_run_ends_where_an_uninterrupted_one_does(tmp_path):
    """Guards resuming against lost random state, moments or learning rate, and learning itself."""
    whole = run(tmp_path / "whole")
    for stop_at in (27, 150):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", stop_at)
    for name, value in run(tmp_path / "stopped").state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_a_checkpoint_of_another_module_is_named(tmp_path):
    """Guards a user who changes the recipe against a traceback."""
    torch.save({"module": {"other": torch.zeros(1)}}, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError, match="remove it"):
        run(tmp_path)
