"""Names that s3prl misses on today's packages: supplied as they were."""

from __future__ import annotations

import argparse
import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from s3prl_speechclip.downstream import compat, sox_effects
from s3prl_speechclip.errors import AudioError, ConfigError

RATE = 16_000  # Hz


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="module", autouse=True)
def applied() -> None:
    compat.apply()


@pytest.mark.parametrize(
    "name",
    [
        "ctc.expert",
        "ctc.corpus.librispeech",
        "ctc.corpus.snips",
        "fluent_commands.expert",
        "quesst14_dtw.expert",
        "speech_commands.expert",
    ],
)
def test_s3prl_imports(name: str) -> None:
    """Fault: a task of SUPERB cannot be imported on today's packages."""
    importlib.import_module(f"s3prl.downstream.{name}")


def test_a_recording_is_read_to_the_sample(tmp_path: Path) -> None:
    """Fault: channels are mixed, shifted or scaled between file and tensor."""
    path = tmp_path / "a.wav"
    written = np.stack([tone(440, RATE), tone(880, RATE)], axis=1).astype(np.float32)
    soundfile.write(path, written, RATE, subtype="FLOAT")
    whole, rate = torchaudio.load(path)
    assert (rate, whole.dtype) == (RATE, torch.float32)
    np.testing.assert_array_equal(whole.numpy(), written.T)
    part, _ = torchaudio.load(path, frame_offset=100, num_frames=50, channels_first=False)
    np.testing.assert_array_equal(part.numpy(), written[100:150])


@pytest.mark.parametrize("content", [None, b"", b"RIFF....WAVEjunk"])
def test_a_broken_recording_is_named_in_one_line(tmp_path: Path, content) -> None:
    """Fault: one broken file of a corpus ends in libsndfile's 'System error'."""
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError) as error:
        compat.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_channels_are_averaged() -> None:
    """Fault: stereo is summed, which clips, or loses a channel."""
    left, right = tone(440, RATE), tone(880, RATE)
    sound = torch.from_numpy(np.stack([left, right])).float()
    mixed, rate = sox_effects.apply_effects_tensor(sound, RATE, [["channels", "1"]])
    assert rate == RATE
    np.testing.assert_allclose(mixed.numpy(), (left + right)[None] / 2, atol=1e-6)


def test_a_gain_of_minus_three_decibels() -> None:
    """Fault: decibels of power are taken for decibels of amplitude (0.501 instead of 0.708)."""
    sound = torch.tensor([[0.5, -1.0, 0.0]])
    softer, _ = sox_effects.apply_effects_tensor(sound, RATE, [["gain", "-3.0"]])
    np.testing.assert_allclose(softer.numpy(), [[0.353973, -0.707946, 0.0]], atol=1e-6)


def test_what_leaves_the_range_is_clipped() -> None:
    """Fault: louder than full scale goes on, where SoX's samples have no such numbers."""
    louder, _ = sox_effects.apply_effects_tensor(
        torch.tensor([[0.9, -0.9, 0.1]]), RATE, [["gain", "6"], ["gain", "-6"]]
    )
    np.testing.assert_allclose(louder.numpy(), [[0.501187, -0.501187, 0.1]], atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int) -> None:
    """Fault: a resampler that is 4 % from SoX's, as torchaudio's default is from 8 to 16 kHz.

    The edges ring for a few milliseconds, in SoX too.
    """
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(3_000, rate), rate, subtype="FLOAT")
    sound, found = sox_effects.apply_effects_file(str(path), [["rate", "16000"]])
    assert found == RATE
    assert sound.shape == (1, RATE // 2)
    inner = slice(RATE // 20, -RATE // 20)
    np.testing.assert_allclose(sound[0, inner].numpy(), tone(3_000, RATE)[inner], atol=1e-4)


def test_norm_brings_the_peak_to_full_scale() -> None:
    """Fault: each channel to a peak of its own, which turns the balance; silence divided by 0."""
    sound = torch.tensor([[0.1, -0.2], [0.05, 0.0]])
    normal, _ = sox_effects.apply_effects_tensor(sound, RATE, [["norm"]])
    np.testing.assert_allclose(normal.numpy(), [[0.5, -1.0], [0.25, 0.0]], atol=1e-6)
    silent, _ = sox_effects.apply_effects_tensor(torch.zeros(1, 4), RATE, [["norm"]])
    assert torch.equal(silent, torch.zeros(1, 4))


@pytest.mark.parametrize("effect", [["pitch", "3"], ["rate", "fast"], ["gain"], ["channels", "0"]])
def test_an_effect_that_cannot_be_is_an_error(effect: list[str]) -> None:
    """Fault: an effect is left out in silence, and features are of another sound."""
    with pytest.raises(ConfigError, match=effect[0]):
        sox_effects.apply_effects_tensor(torch.zeros(1, 4), RATE, [effect])


def test_a_checkpoint_of_s3prl_loads(tmp_path: Path) -> None:
    """Fault: a past experiment, whose arguments are a Namespace, is refused."""
    torch.save({"Args": argparse.Namespace(upstream="fbank")}, tmp_path / "states-1.ckpt")
    assert torch.load(tmp_path / "states-1.ckpt")["Args"].upstream == "fbank"


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """Fault: to read a Namespace, everything is allowed."""
    torch.save({"Args": Path("/")}, tmp_path / "states-1.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "states-1.ckpt")
