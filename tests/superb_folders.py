"""A few recordings in the official layout of each SUPERB corpus, with its own names.

The sentences are in the corpora's manner, read by espeak-ng: speech that features can be taken
from, in about a second a corpus and without any download. A synthetic speaker stands for each of
the corpora's people.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import soxr

from s3prl_speechclip.minis.synthesis import read_aloud
from s3prl_speechclip.minis.synthesis.voices import SPEAKERS

RATE = 16_000
READERS = ("Alex", "Linda", "M3", "Belinda", "F2", "Paul")
"""One for each person of a corpus, in turn."""


def write_fluent_commands(root: Path) -> Path:
    """Write Fluent Speech Commands' folder: two intents, one speaker a split."""
    intents = {
        "Turn on the lights in the kitchen": ("activate", "lights", "kitchen"),
        "Volume up": ("increase", "volume", "none"),
        "Switch the music off": ("deactivate", "music", "none"),
    }
    (root / "data").mkdir(parents=True)
    speakers = {
        "train": "2BqVo8kVB2Skwgyb",
        "valid": "4BrX8aDqK2cLZRYl",
        "test": "4aGjX3AG5xcxeL7a",
    }
    for reader, (split, speaker) in enumerate(speakers.items()):
        lines = [",path,speakerId,transcription,action,object,location"]
        for k, (text, intent) in enumerate([*intents.items()] * (2 if split == "train" else 1)):
            path = f"wavs/speakers/{speaker}/{k:08x}-4471-11e9-a9a5-5dbec3b8816a.wav"
            read(root / path, text, reader)
            lines.append(f"{k},{path},{speaker},{text},{','.join(intent)}")
        _lines(root / "data" / f"{split}_data.csv", lines)
    return root


def write_speech_commands(root: Path) -> SimpleNamespace:
    """Write Speech Commands v0.01's two folders; gives them as `train` and `test`."""
    words = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "marvin")
    # By the official hash the third is a validation speaker, the last a test speaker.
    speakers = ("00176480", "0132a06d", "fe5dbbce", "0c40e715")
    train = root / "speech_commands_v0.01"
    test = root / "speech_commands_test_set_v0.01"
    for reader, speaker in enumerate(speakers):
        for word in words:
            name = f"{speaker}_nohash_0.wav"
            read(train / word / name, word, reader)
            if speaker == speakers[-1]:
                read(test / ("_unknown_" if word == "marvin" else word) / name, word, reader)
    noise = 0.01 * np.random.default_rng(0).standard_normal(3 * RATE)
    for path, samples in (
        (train / "_background_noise_" / "white_noise.wav", noise),
        (train / "_background_noise_" / "pink_noise.wav", np.cumsum(noise) / 50),
        (test / "_silence_" / "0_nohash_0.wav", noise[:RATE]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    _lines(train / "validation_list.txt", [f"{word}/{speakers[2]}_nohash_0.wav" for word in words])
    _lines(train / "testing_list.txt", [f"{word}/{speakers[3]}_nohash_0.wav" for word in words])
    return SimpleNamespace(train=train, test=test)


def write_librispeech(root: Path) -> SimpleNamespace:
    """Write LibriSpeech's folder, as `corpus`, and two lexicons, as `lexicons`."""
    texts = ("HE WAS NOT A YOUNG MAN", "SHE HAD TEN RED HATS", "A SHIP WENT BY")
    phones = {
        "A": "AH0",
        "BY": "B AY1",
        "HAD": "HH AE1 D",
        "HATS": "HH AE1 T S",
        "HE": "HH IY1",
        "MAN": "M AE1 N",
        "NOT": "N AA1 T",
        "RED": "R EH1 D",
        "SHE": "SH IY1",
        "SHIP": "SH IH1 P",
        "TEN": "T EH1 N",
        "WAS": "W AA1 Z",
        "WENT": "W EH1 N T",
        "YOUNG": "Y AH1 NG",
    }
    corpus = root / "LibriSpeech"
    chapters = {
        "train-clean-100": ("103-1240", "1034-121119"),
        "dev-clean": ("1272-128104",),
        "test-clean": ("61-70968",),
    }
    reader = 0
    for split, own in chapters.items():
        for chapter in own:
            folder = corpus / split / chapter.replace("-", "/")
            for k, text in enumerate(texts):
                read(folder / f"{chapter}-{k:04d}.flac", text.lower(), reader)
            lines = [f"{chapter}-{k:04d} {text}" for k, text in enumerate(texts)]
            _lines(folder / f"{chapter}.trans.txt", lines)
            reader += 1
    entries = [f"{word}\t{own}" for word, own in phones.items()]
    lexicons = [root / f"librispeech-lexicon-{name}-g2p.txt" for name in ("200k", "allothers")]
    _lines(lexicons[0], [*entries[:7], "A EY1"])
    _lines(lexicons[1], entries[7:])
    return SimpleNamespace(corpus=corpus, lexicons=lexicons)


def write_quesst14(root: Path) -> Path:
    """Write `quesst14Database`: two queries a split, four English utterances and a Czech one."""
    database = root / "quesst14Database"
    texts = ("the red hat is new", "a yellow banana", "she saw the hat", "four people")
    queries = {"dev": ("hat", "banana"), "eval": ("people", "yellow")}
    keys = []
    for k, text in enumerate((*texts, "dobry den")):
        path = f"Audio/quesst14_{k + 1:05d}.wav"
        read(database / path, text, k % 2)
        keys.append(f"quesst14Database/{path} {'nnenglish' if k < len(texts) else 'czech'}")
    scoring = database / "scoring"
    scoring.mkdir()
    _lines(scoring / "language_key_utterances.lst", keys)
    for split, words in queries.items():
        keys, truth = [], []
        for k, word in enumerate(words):
            path = f"{split}_queries/quesst14_{split}_{k + 1:04d}.wav"
            read(database / path, word, 2 + k)
            keys.append(f"quesst14Database/{path} nnenglish")
            truth += [
                f"LEXEME quesst14_{place + 1:05d} 1 0.00 2.00 {Path(path).stem} lex <NA> <NA>"
                for place, text in enumerate(texts)
                if word in text.split()
            ]
        _lines(scoring / f"language_key_{split}.lst", keys)
        folder = scoring / f"groundtruth_quesst14_{split}"
        folder.mkdir()
        _lines(folder / f"quesst14_{split}.rttm", truth)
    return database


def write_snips(root: Path) -> Path:
    """Write `SNIPS` as s3prl prepares it, with speakers of its configuration."""
    requests = (
        ("PLAY WESTBAM ON GOOGLE MUSIC", "O artist O service service", "PlayMusic"),
        ("ADD A TUNE TO MY PARTY LIST", "O O music_item O O playlist O", "AddToPlaylist"),
        ("IS IT SUNNY IN PARIS", "O O condition_description O city", "GetWeather"),
    )
    corpus = root / "SNIPS"
    labels = []
    for reader, (split, speaker) in enumerate(
        (("train", "Ivy"), ("train", "Joanna"), ("valid", "Aditi"), ("test", "Brian"))
    ):
        for k, (text, slots, intent) in enumerate(requests):
            name = f"{speaker}-snips-{split}-{k}"
            read(corpus / split / f"{name}.wav", text.lower(), reader)
            labels.append(f"{name} BOS {text} EOS\tO {slots} {intent}")
    _lines(corpus / "all.iob.snips.txt", labels)
    names = {name for _, slots, _ in requests for name in slots.split()} - {"O"}
    (corpus / "slots.txt").write_text("\n".join(("O", *sorted(names))), encoding="utf-8")
    return corpus


def read(path: Path, text: str, reader: int) -> None:
    """Have one of the `READERS` read a text into a 16 kHz file."""
    reading = read_aloud(text, SPEAKERS[READERS[reader % len(READERS)]], ())
    samples = soxr.resample(reading.samples.astype(np.float32) / 32768, reading.sample_rate, RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
