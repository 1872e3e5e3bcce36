"""Corpora with a fault, which is named before s3prl's experts meet it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from downstream_runs import ask

from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.errors import CorpusError

Write = Callable[[str], Path]
Break = Callable[[Path], None]
DOCUMENT = "quesst14Database/Audio/quesst14_00003.wav"
QUERIES = "quesst14Database/scoring/language_key_eval.lst"


def replace_text(name: str, old: str, new: str) -> Break:
    def change(root: Path) -> None:
        path = root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def remove(name: str) -> Break:
    return lambda root: (root / name).unlink()


def short_noise(root: Path) -> None:
    path = root / "speech_commands_v0.01" / "_background_noise_" / "hum.wav"
    soundfile.write(path, np.zeros(8_000), 16_000)


def unknown_class(root: Path) -> None:
    (root / "speech_commands_test_set_v0.01" / "garage").mkdir()


def hidden_file(root: Path) -> None:
    (root / "speech_commands_v0.01" / "yes" / "._a_nohash_0.wav").write_bytes(b"Mac OS X")


@pytest.mark.parametrize(
    ("task", "fault", "said"),
    [
        (
            "fluent_commands",
            replace_text("data/test_data.csv", ",music,", ",garage,"),
            "line 4: the",
        ),
        ("fluent_commands", remove("wavs/speakers/valid/2.wav"), "line 4: no recording"),
        ("fluent_commands", replace_text("data/train_data.csv", "action", "deed"), "no column"),
        ("voxceleb1", remove("dev/wav/id10002/video/00001.wav"), "line 6: no recording"),
        ("voxceleb1", replace_text("iden_split.txt", "id10001", "id11252"), "line 1: expected"),
        ("snips", replace_text("slots.txt", "artist", "singer"), "the slot 'artist', which"),
        ("speech_commands", short_noise, "lasts 0.50 s"),
        ("speech_commands", hidden_file, "macOS added"),
        ("speech_commands", unknown_class, "garage' is none of the 12 classes"),
        ("asr", replace_text("dev-clean/2/1/2-1.trans.txt", "2-1-0001", "x"), "no transcript"),
        (
            "quesst14_dtw",
            remove("quesst14Database/Audio/quesst14_00003.wav"),
            "line 4: no recording",
        ),
        ("quesst14_dtw", replace_text(QUERIES, " nnenglish", ""), "line 1: expected a path"),
        ("libriphone", replace_text("librispeech-lexicon.txt", "DOG", "CAT"), "14,716 words"),
    ],
)
def test_a_fault_of_a_corpus_is_named(
    task: str, fault: Break, said: str, write_corpus: Write, tmp_path: Path
):
    """Guards against s3prl's own `KeyError: 'garage'`, `list index out of range` and the like."""
    root = write_corpus(task)
    fault(root)
    with pytest.raises(CorpusError, match=said) as error:
        run(ask(task, root, tmp_path / "run"))
    assert "\n" not in str(error.value) and "--skip-broken" not in str(error.value)


@pytest.mark.parametrize("task", ["libriphone", "asr"])
def test_hidden_files_are_no_recordings(task: str, write_corpus: Write, tmp_path: Path):
    """Guards LibriSpeech against the files that macOS adds to what it unpacks."""
    root = write_corpus(task)
    for path in list(root.rglob("*.flac")):
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    assert run(ask(task, root, tmp_path / "run", steps=1)).result is not None


@pytest.mark.parametrize("task", ["emotion", "fluent_commands"])
def test_advice_is_of_this_command(task: str, write_corpus: Write, tmp_path: Path):
    """Guards against advice to give --skip-broken, which run_downstream.py does not have."""
    root = write_corpus(task)
    next(iter(sorted(root.rglob("*.wav")))).write_bytes(b"RIFFnothing")
    with pytest.raises(CorpusError, match=r"\.wav' cannot be decoded") as error:
        run(ask(task, root, tmp_path / "run"))
    assert "--skip-broken" not in str(error.value)


def test_speaker_identification_reads_the_corpus_that_it_names(write_corpus: Write, tmp_path: Path):
    """Guards against s3prl's list of files, which is of the first corpus that a folder saw."""
    one = write_corpus("voxceleb1")
    first = run(ask("voxceleb1", one, tmp_path / "run")).result
    other = one.rename(tmp_path / "moved")
    lines = (other / "iden_split.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("3") or "id10001" in line]
    (other / "iden_split.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    again = run(
        Request(past=tmp_path / "run", evaluate=True, data_root=str(other), device="cpu")
    ).result
    assert first is not None and again is not None
    truth = (tmp_path / "run" / "test_truth.txt").read_text(encoding="utf-8").split()
    assert truth[1::2] == ["id10001"]
    assert not list((tmp_path / "run").glob("file_lists*"))


def test_a_sweep_of_speaker_identification(write_corpus: Write, tmp_path: Path):
    """Guards against a stand-in for librosa that the second expert stumbles over."""
    request = ask("voxceleb1", write_corpus("voxceleb1"), tmp_path / "run", steps=1)
    assert run(replace(request, sweep=(1e-2, 1e-3))).result is not None
