"""Speaker verification and diarization on a few recordings in their corpora's layout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from downstream_runs import ask
from superb_folders import RATE, read

from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.downstream.sox_effects import apply_effects_tensor
from s3prl_speechclip.errors import ConfigError, CorpusError

TEXTS = ("Turn on the lights in the kitchen, please", "Is the music in the bedroom off by now")
SMALL_SD = "downstream_expert.loaderrc.train_batchsize=2,,downstream_expert.modelrc.hidden_size=16"
SMALL_ASV = (
    "downstream_expert.datarc.vad_config.min_sec=8000,,downstream_expert.datarc.max_timestep=16000,,"
    "downstream_expert.datarc.train_batch_size=2,,runner.gradient_accumulate_steps=1,,"
    "downstream_expert.modelrc.input_dim=16,,downstream_expert.modelrc.module_config.XVector"
    ".agg_dim=24"
)


def write_voxceleb1(root: Path) -> Path:
    """Write two speakers for training and two for the trials, two recordings each."""
    lists = []
    for part, speakers in (("dev", ("id10001", "id10002")), ("test", ("id10270", "id10271"))):
        names = []
        for reader, speaker in enumerate(speakers):
            for number, text in enumerate(TEXTS):
                names.append(f"{speaker}/video{number}/00001.wav")
                read(root / part / "wav" / names[-1], text, reader)
        trials = [(1, 0, 1), (1, 2, 3), (0, 0, 2), (0, 1, 3)]
        lists.append("".join(f"{same} {names[a]} {names[b]}\n" for same, a, b in trials))
    for name, text in zip(("dev_meta_data.txt", "voxceleb1_test_v2.txt"), lists, strict=True):
        (root / name).write_text(text, encoding="utf-8")
    (root / "dev_speaker_ids.txt").write_text("id10001\n", encoding="utf-8")
    return root


def write_librimix(root: Path) -> Path:
    """Write two mixtures a split: the second speaker begins when the first is half through."""
    for split in ("train", "dev", "test"):
        folder = root / split
        tables: dict[str, list[str]] = {
            name: [] for name in ("wav.scp", "reco2dur", "segments", "utt2spk")
        }
        for number in range(2):
            voices = []
            for reader, text in enumerate(TEXTS):
                path = folder / "alone" / f"{number}-{reader}.wav"
                read(path, text, reader + number)
                voices.append(soundfile.read(path)[0])
            begin = len(voices[0]) // 2
            mixture = np.zeros(max(len(voices[0]), begin + len(voices[1])))
            name, mixed = f"mix{number}", folder / f"mix{number}.wav"
            tables["wav.scp"].append(f"{name} {mixed}")
            tables["reco2dur"].append(f"{name} {len(mixture) / RATE:.3f}")
            for reader, (start, voice) in enumerate(zip((0, begin), voices, strict=True)):
                mixture[start : start + len(voice)] += voice / 2
                end = (start + len(voice)) / RATE
                tables["segments"].append(f"{name}-{reader} {name} {start / RATE:.3f} {end:.3f}")
                tables["utt2spk"].append(f"{name}-{reader} speaker{reader + number}")
            soundfile.write(mixed, mixture, RATE, subtype="PCM_16")
        for table, lines in tables.items():
            (folder / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_speaker_verification_trains_and_is_tested(tmp_path: Path) -> None:
    """Fault: needs sox, then librosa, then SoX's effect, then a GPU, an error a start."""
    loaded = set(sys.modules)
    corpus = write_voxceleb1(tmp_path / "corpus")
    result = run(ask("asv", corpus, tmp_path / "run", steps=2, changes=SMALL_ASV)).result
    assert result is not None
    assert 0 <= result.metrics["test"]["EER"] <= 1
    assert "sox" not in set(sys.modules) - loaded


def test_lengths_of_recordings_are_of_this_corpus(tmp_path: Path) -> None:
    """Fault: s3prl keeps lengths inside its package, and reads them for any corpus."""
    first, other = (write_voxceleb1(tmp_path / name) for name in ("first", "other"))
    for path in (other / "dev" / "wav").rglob("*.wav"):
        soundfile.write(path, np.zeros(RATE), RATE, subtype="PCM_16")
    assert run(ask("asv", first, tmp_path / "run", steps=1, changes=SMALL_ASV)).result is not None
    request = ask("asv", other, tmp_path / "run-other", steps=1, changes=SMALL_ASV)
    with pytest.raises(CorpusError, match=r"min_sec"):
        run(request)


def test_a_trial_without_its_recording_is_named(tmp_path: Path) -> None:
    """Guards against a test that ends in a traceback after days of training."""
    corpus = write_voxceleb1(tmp_path / "corpus")
    (corpus / "test" / "wav" / "id10271" / "video1" / "00001.wav").unlink()
    with pytest.raises(CorpusError, match=r"voxceleb1_test_v2.txt' line 2: no recording"):
        run(ask("asv", corpus, tmp_path / "run"))


def test_diarization_trains_and_is_tested(tmp_path: Path) -> None:
    """Fault: needs h5py, which nothing declared."""
    corpus = write_librimix(tmp_path / "corpus")
    result = run(ask("sd", corpus, tmp_path / "run", steps=2, changes=SMALL_SD)).result
    assert result is not None
    assert 0 <= result.metrics["test"]["acc"] <= 1
    predictions = sorted((tmp_path / "run" / "scoring" / "predictions").glob("*.h5"))
    assert [path.stem for path in predictions] == ["mix0", "mix1"]


def test_pieces_of_recordings_are_not_taken_for_recordings(tmp_path: Path) -> None:
    """Guards against stored features of a whole recording where a data set cuts a piece."""
    corpus = write_librimix(tmp_path / "corpus")
    changes = f"{SMALL_SD},,runner.cache=frames"
    with pytest.raises(ConfigError, match=r"cuts or copies .* give --cache off"):
        run(ask("sd", corpus, tmp_path / "run", steps=2, changes=changes))


@pytest.mark.parametrize("table", ["reco2dur", "segments"])
def test_a_recording_that_a_table_lacks_is_named(tmp_path: Path, table: str) -> None:
    """Guards against a KeyError without the file's name."""
    corpus = write_librimix(tmp_path / "corpus")
    path = corpus / "dev" / table
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if "mix1" not in line), encoding="utf-8")
    with pytest.raises(CorpusError, match=f"{table}' lacks 'mix1'"):
        run(ask("sd", corpus, tmp_path / "run"))


def slow_silence(samples: Sequence[float], duration: int, window: int, level: float) -> list[float]:
    """SoX's effect, sample by sample: trim to loud sound, copy to a silence, and again."""
    kept: list[float] = []
    held: list[float] = []
    recent = [0.0] * window
    copying = False
    for sample in samples:
        recent = [*recent[1:], sample * sample]
        loud = (sum(recent) / window) ** 0.5 > level
        if copying and loud:
            kept += [*held, sample]
            held = []
        elif copying:
            held.append(sample)
            if len(held) == duration:
                held, recent, copying = [], [0.0] * window, False
        elif loud:
            held.append(sample)
            if len(held) == duration:
                kept, held, copying = kept + held, [], True
        else:
            held = []
    return kept + held if copying else kept


@pytest.mark.parametrize("seed", range(6))
def test_silence_is_trimmed_as_sox_does(seed: int) -> None:
    """Guards against levels that reach into what was dropped; SoX itself agreed on 100 sounds."""
    random = np.random.default_rng(seed)
    rate = 1000  # a window of 20 samples, a duration of 100
    levels = random.choice([0, 5e-4, 1.1e-3, 0.1], size=12)
    parts = [level * random.standard_normal(random.integers(5, 250)) for level in levels]
    sound = np.concatenate(parts).astype(np.float32)
    effect = ["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]
    trimmed, _ = apply_effects_tensor(torch.from_numpy(sound)[None], rate, [effect])
    expected = slow_silence(sound.astype(float).tolist(), 100, 20, 1e-3)
    np.testing.assert_allclose(trimmed[0].numpy(), expected, atol=1e-7)
