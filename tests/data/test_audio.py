"""Recordings as users have them: each kind is read as documented, or named in one line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_speechclip.data.audio import audio_info, read_audio
from s3prl_speechclip.errors import AudioError
from s3prl_speechclip.structures import WINDOW

RATE = 16_000  # Hz


def tone(seconds: float, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def strongest(waveform: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(np.fft.rfftfreq(len(waveform), 1 / rate)[spectrum.argmax()])


def assert_one_line(error: pytest.ExceptionInfo[AudioError], path: Path) -> None:
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert "--skip-broken" in message


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_common_format_is_read(tmp_path: Path, suffix: str) -> None:
    """Fault: a corpus of another format than WAV fails."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(1.0), RATE)
    waveform = read_audio(path)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert strongest(waveform) == pytest.approx(440, abs=2)  # the spectrum's resolution is 1 Hz


def test_wav_is_read_to_the_sample(tmp_path: Path) -> None:
    """Fault: a scale or an offset between the file and the model's input."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path), tone(0.1))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    """Fault: 8 kHz speech is read at double speed."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, rate), rate)
    waveform = read_audio(path)
    assert len(waveform) == RATE
    assert strongest(waveform) == pytest.approx(440, abs=2)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    """Fault: one channel is lost, or the channels are read one after the other."""
    path = tmp_path / "a.wav"
    left, right = tone(0.1), tone(0.1, frequency=880)
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "rate", "length"),
    [(WINDOW - 1, RATE, WINDOW - 1), (1, 48_000, 1), (600 * 8_000, 8_000, 600 * RATE)],
    ids=["shorter than a frame", "one sample", "ten minutes"],
)
def test_silence_of_any_length_is_read_whole(
    tmp_path: Path, samples: int, rate: int, length: int
) -> None:
    """Fault: a clipped recording stops a run, or evaluation sees a part of a long one."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(samples, dtype=np.int16), rate)
    waveform = read_audio(path)
    assert len(waveform) == length
    assert not waveform.any()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.wav", None, "does not exist"),
        (".", None, "is a folder"),
        ("a.wav", b"", "is an empty file"),
        ("a.wav", b"not a recording at all", "cannot be decoded"),
        ("a.wav", b"RIFF\x00\x00", "cannot be decoded"),
        ("a.ogg", b"OggS" * 20, "cannot be decoded"),
        ("a.raw", bytes(1000), "cannot be decoded"),
    ],
)
def test_what_is_no_recording_is_named(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    """Fault: a traceback of the decoder, or libsndfile's 'System error', reaches the user."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (read_audio, audio_info):
        with pytest.raises(AudioError, match=reason) as error:
            read(path)
        assert_one_line(error, path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "wav8"])
def test_cut_off_is_named_with_both_lengths(tmp_path: Path, suffix: str) -> None:
    """Fault: half a recording passes for a whole one."""
    path = tmp_path / f"a.{suffix.rstrip('8')}"
    rate = 8_000 if suffix.endswith("8") else RATE
    soundfile.write(path, tone(1.0, rate), rate, subtype="PCM_16")
    header = path.stat().st_size - 2 * rate
    path.write_bytes(path.read_bytes()[: header + rate])
    for read in (read_audio, audio_info):
        with pytest.raises(
            AudioError, match=f"promises {rate} samples.*holds {rate // 2};"
        ) as error:
            read(path)
        assert_one_line(error, path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF024, 2 * RATE + 44])
def test_length_that_was_not_known_is_no_fault(tmp_path: Path, size: int) -> None:
    """Fault: what ffmpeg and sox write to a pipe, or a size with the header's, is refused."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0), RATE)
    content = bytearray(path.read_bytes())
    start = content.index(b"data") + 4
    content[start : start + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_audio(path)) == audio_info(path).samples == RATE


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "no samples"),
        ([0.1, np.nan], "1 samples that are NaN or infinite"),
        ([0.1, np.inf], "1 samples that are NaN or infinite"),
    ],
)
def test_unusable_samples_are_named(tmp_path: Path, samples: list[float], reason: str) -> None:
    """Fault: one NaN makes the whole batch's loss NaN, far from its cause."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array(samples, np.float32), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=reason) as error:
        read_audio(path)
    assert_one_line(error, path)


def test_header_holds_the_length(tmp_path: Path) -> None:
    """Fault: durations are those of the resampled signal, or of all channels together."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((4_000, 2)), 8_000)
    info = audio_info(path)
    assert (info.samples, info.sample_rate, info.channels, info.duration) == (4_000, 8_000, 2, 0.5)
