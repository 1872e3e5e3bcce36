"""Few-file corpora in the layouts of the real ones, of chords that tell what is said.

A sound is made of the pitches of its classes, so that there is something to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3prl_speechclip.data.cache import CACHE_VARIABLE

RATE = 16_000
PITCHES = (220, 330, 470, 610, 820, 1150, 1500, 2000)  # Hz, of the classes


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep features of few-file corpora out of the user's cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[[str], Path]:
    """Write the few-file corpus of a task; gives its root."""

    def write(task: str) -> Path:
        root = tmp_path / "corpora" / task
        root.mkdir(parents=True)
        WRITERS[task](root)
        return root

    return write


def sound(path: Path, classes: Sequence[int], seconds: float = 0.4, seed: int = 0) -> Path:
    """Write a recording of some classes, one after the other."""
    generator = np.random.default_rng([seed, *classes, int(seconds * 100)])
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * RATE)) / RATE
    parts = [0.3 * np.sin(2 * np.pi * PITCHES[c % len(PITCHES)] * time) for c in classes]
    wave = np.concatenate(parts)
    soundfile.write(path, wave + 0.01 * generator.standard_normal(len(wave)), RATE)
    return path


def fluent_commands(root: Path) -> None:
    actions, things = ("activate", "deactivate"), ("lights", "music")
    (root / "data").mkdir()
    for split, count in (("train", 16), ("valid", 8), ("test", 8)):
        lines = [",path,speakerId,transcription,action,object,location"]
        for number in range(count):
            a, b = number % 2, number // 2 % 2
            name = f"wavs/speakers/{split}/{number}.wav"
            sound(root / name, (a, 4 + b), seed=number + len(split))
            said = f"{actions[a]} {things[b]}"
            lines.append(f"{number},{name},{split},{said},{actions[a]},{things[b]},none")
        text = "\n".join(lines) + "\n"
        (root / "data" / f"{split}_data.csv").write_text(text, encoding="utf-8")


def speech_commands(root: Path) -> None:
    train, test = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    for place, word in enumerate(("yes", "no", "bed")):
        # s3prl sorts speakers into train and dev by a hash of their names.
        for speaker in ("a", "b", "c", "d", "e", "f", "g", "h", "n", "s", "t", "v"):
            sound(train / word / f"{speaker}_nohash_0.wav", (place, place), seed=ord(speaker))
    for place, word in enumerate(("yes", "no", "_unknown_", "_silence_")):
        sound(test / word / "z_nohash_0.wav", (place, place))
    sound(train / "_background_noise_" / "hum.wav", (7,), seconds=1.5)


def speech(root: Path, split: str, speaker: str, texts: Sequence[str]) -> None:
    folder = root / split / speaker / "1"
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-1-{number:04d}"
        sound(folder / f"{name}.flac", [len(word) for word in text.split()], seed=number)
        lines.append(f"{name} {text}")
    (folder / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def libri(root: Path) -> None:
    texts = ("A DOG", "A BIRD", "A DOG RUNS", "BIRD", "RUNS A DOG", "DOG")
    speech(root, "train-clean-100", "1", texts)
    speech(root, "dev-clean", "2", texts[:2])
    speech(root, "test-clean", "3", texts[1:3])


def libriphone(root: Path) -> None:
    libri(root)
    lexicon = "A AH0\nA EY1\nDOG D AO1 G\nBIRD B ER1 D\nRUNS R AH1 N Z\n"
    (root / "librispeech-lexicon.txt").write_text(lexicon, encoding="utf-8")


def snips(root: Path) -> None:
    (root / "slots.txt").write_text("O\nartist\ncity", encoding="utf-8")
    lines = []
    for split, speaker in (("train", "Ivy"), ("valid", "Amy"), ("test", "Emma")):
        for number in range(4):
            name = f"{speaker}-snips-{split}-{number}"
            sound(root / split / f"{name}.wav", (number, 2, number), seed=number)
            slot, word = (("artist", "ABBA"), ("city", "BONN"))[number % 2]
            lines.append(f"{name} BOS PLAY {word} EOS\tO O {slot} PlayMusic")
    (root / "all.iob.snips.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def quesst14_dtw(root: Path) -> None:
    root = root / "quesst14Database"
    documents = {
        f"quesst14_{n:05d}": classes
        for n, classes in enumerate(
            [(0, 5), (5, 1), (2, 5), (5, 3), (0, 6), (6, 1), (2, 6), (6, 3)]
        )
    }
    for number, (name, classes) in enumerate(documents.items()):
        sound(root / "Audio" / f"{name}.wav", classes, seed=number)
    scoring = root / "scoring"
    scoring.mkdir()
    listed = [f"quesst14Database/Audio/{name}.wav nnenglish" for name in documents]
    (scoring / "language_key_utterances.lst").write_text("\n".join(listed), encoding="utf-8")
    for split in ("dev", "eval"):
        held, lines = [], []
        for word in range(4):
            name = f"quesst14_{split}_{word:04d}"
            sound(root / f"{split}_queries" / f"{name}.wav", (word,), seconds=0.3, seed=len(split))
            held += [f"quesst14Database/{split}_queries/{name}.wav nnenglish"]
            lines += [
                f"LEXEME {document} 1 0.00 0.80 {name} <NA> <NA> <NA>"
                for document, classes in documents.items()
                if word in classes
            ]
        (scoring / f"language_key_{split}.lst").write_text("\n".join(held), encoding="utf-8")
        truth = scoring / f"groundtruth_quesst14_{split}"
        truth.mkdir()
        (truth / f"quesst14_{split}.rttm").write_text("\n".join(lines), encoding="utf-8")


def voxceleb1(root: Path) -> None:
    lines = []
    for speaker in range(3):
        for number, split in enumerate((1, 1, 2, 3)):
            name = f"id1000{speaker + 1}/video/{number:05d}.wav"
            sound(root / "dev" / "wav" / name, (speaker, speaker), seed=number)
            lines.append(f"{split} {name}")
    (root / "iden_split.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def emotion(root: Path) -> None:
    for session in (1, 2):
        told = []
        for number, label in enumerate(("neu", "hap", "ang", "sad", "exc", "xxx", "neu", "sad")):
            name = f"Ses0{session}F_impro01_F{number:03d}"
            base = root / f"Session{session}"
            sound(base / "sentences" / "wav" / "Ses" / f"{name}.wav", (number % 4,), seed=number)
            told.append(f"[0.0 - 1.0]\t{name}\t{label}\t[2.5, 2.5, 2.5]")
        folder = root / f"Session{session}" / "dialog" / "EmoEvaluation"
        folder.mkdir(parents=True)
        (folder / "Ses.txt").write_text("% header\n\n" + "\n".join(told) + "\n", encoding="utf-8")


WRITERS = {
    "fluent_commands": fluent_commands,
    "speech_commands": speech_commands,
    "libriphone": libriphone,
    "snips": snips,
    "quesst14_dtw": quesst14_dtw,
    "voxceleb1": voxceleb1,
    "emotion": emotion,
    "asr": libri,
}
