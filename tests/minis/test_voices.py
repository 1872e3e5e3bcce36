"""Voices that are changed without losing what is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s3prl_speechclip.minis.training.crops import (
    AS_THEY_ARE,
    MaskedCrops,
    MaskingConfig,
    VoiceConfig,
    draw_speeds,
    played,
    recoloured,
    source_frames,
)
from s3prl_speechclip.minis.training.units import WINDOW, frames_of, make_units, mfcc
from s3prl_speechclip.structures import HOP, SAMPLE_RATE

CHANGED = VoiceConfig(speed=1.25, gain=4.0, noise=(15.0, 50.0))


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_playing_faster_raises_the_pitch_as_much(speed):
    """Guards the direction: a tone of 400 Hz played 1.25 times faster is one of 500 Hz."""
    tone = np.sin(2 * np.pi * 400 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(played(tone, speed, SAMPLE_RATE)))
    assert int(spectrum.argmax()) == pytest.approx(400 * speed, abs=1)


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_frames_are_where_they_are_heard(speed):
    """Guards units against drifting from a recording that is played faster: a click is in the
    frame whose unit says so."""
    samples = np.zeros(3 * SAMPLE_RATE)
    frames = frames_of(SAMPLE_RATE)
    for frame in (3, 20, 40):
        samples[:] = 0
        centre = round((frame * HOP + WINDOW / 2) * speed)
        samples[centre] = 1
        heard = source_frames(frames, speed, frames_of(len(samples)))
        click = int(np.abs(played(samples, speed, SAMPLE_RATE)).argmax())
        assert abs(click - (frame * HOP + WINDOW / 2)) <= 1
        assert abs(heard[frame] * HOP + WINDOW / 2 - centre) <= HOP / 2


def test_frames_stay_within_the_recording():
    assert source_frames(10, 1.25, 8).max() == 7
    assert source_frames(10, 1.0, 10).tolist() == list(range(10))


def test_speeds_are_as_often_slower_as_faster():
    speeds = draw_speeds(2_000, CHANGED, np.random.default_rng(0))
    assert speeds.min() >= 1 / 1.25 and speeds.max() <= 1.25
    assert 0.45 < (speeds < 1).mean() < 0.55
    assert (draw_speeds(5, AS_THEY_ARE, np.random.default_rng(0)) == 1).all()


def test_noise_is_as_loud_as_it_says():
    wave = np.random.default_rng(1).standard_normal((2, 16_000), np.float32)
    loud = recoloured(wave, VoiceConfig(noise=(20.0, 20.0)), np.random.default_rng(0))
    assert (loud - wave).std() == pytest.approx(0.1, rel=0.05)
    assert np.array_equal(recoloured(wave, AS_THEY_ARE, np.random.default_rng(0)), wave)


def test_changed_crops_keep_their_units(small_speech, tmp_path):
    """Guards the third round: same sounds under other voices, a batch still one of its step."""
    units = make_units(small_speech, mfcc, 12, tmp_path / "u")
    crops = MaskedCrops(small_speech, units, MaskingConfig(), 3.0, voices=CHANGED)
    waveforms, labels, masked = crops.batch(5)
    assert waveforms.isfinite().all() and waveforms.dtype == torch.float32
    assert labels.shape == masked.shape == (len(waveforms), frames_of(waveforms.shape[1]))
    for one, other in zip(crops.batch(5), crops.batch(5), strict=True):
        assert torch.equal(one, other)
