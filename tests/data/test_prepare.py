"""A corpus that is prepared once reads, and trains, as the original does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_corpus import write_flickr8k
from small_runs import arguments, losses, run

from s3prl_speechclip.data.__main__ import main
from s3prl_speechclip.data.audio import audio_info, read_audio
from s3prl_speechclip.data.corpora import load_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_flickr8k(tmp_path / "corpus")


def prepare(corpus: Path, out: Path, *more: str) -> int:
    return main(["prepare", "flickr8k", "--data-root", str(corpus), "--out", str(out), *more])


def test_samples_are_the_originals_to_the_last_bit(corpus: Path, tmp_path: Path, capsys) -> None:
    """Fault: a recording is rounded, or takes another's place; resampled ones are no 16-bit."""
    stereo = sorted((corpus / "flickr_audio" / "wavs").glob("*.wav"))[3]
    soundfile.write(stereo, np.random.default_rng(0).uniform(-1, 1, (9000, 2)), 44_100)
    assert prepare(corpus, tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    original, prepared = load_corpus("flickr8k", corpus), load_corpus(str(tmp_path / "out"))
    assert prepared.corpus == original.corpus and prepared.dev_splits == original.dev_splits
    for before, after in zip(original.utterances, prepared.utterances, strict=True):
        path = prepared.path(after.audio)
        assert (after.utterance_id, after.text, after.split, after.pair_id) == (
            before.utterance_id,
            before.text,
            before.split,
            before.pair_id,
        )
        assert np.array_equal(read_audio(path), read_audio(original.path(before.audio)))
        assert prepared.path(after.image) == original.path(before.image)
        info = audio_info(path)
        assert (info.sample_rate, info.channels) == (16_000, 1)
        assert after.duration == info.duration
        assert path.suffix == (".wav" if before.audio.endswith(stereo.name) else ".flac")


def test_training_has_the_losses_of_the_original(corpus: Path, tmp_path: Path) -> None:
    """Fault: other batches, crops or samples than those of the corpus itself."""
    cropped = "data.max_samples=4000"
    assert prepare(corpus, tmp_path / "out") == 0
    argv = arguments(corpus, tmp_path / "one", 3, overrides=cropped)
    run(*argv)
    argv = arguments(corpus, tmp_path / "two", 3, overrides=cropped)
    place = argv.index("--data")
    argv[place : place + 4] = ["--data", str(tmp_path / "out")]
    run(*argv)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


def test_a_broken_recording_is_named_or_counted(corpus: Path, tmp_path: Path, capsys) -> None:
    """Fault: half a folder is left behind, or a recording is dropped in silence."""
    broken = sorted((corpus / "flickr_audio" / "wavs").glob("*.wav"))[0]
    broken.write_bytes(b"not a recording" * 9)
    assert prepare(corpus, tmp_path / "out") == 2
    assert broken.name in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert prepare(corpus, tmp_path / "out", "--skip-broken") == 0
    assert load_corpus(str(tmp_path / "out")).notes == ("1 recordings left out",)


def test_a_folder_that_holds_files_is_left_alone(corpus: Path, tmp_path: Path, capsys) -> None:
    """Fault: files of the user's are removed, or an older preparation passes for this one."""
    assert prepare(corpus, corpus) == 2
    assert "is not empty; name another folder" in capsys.readouterr().err
