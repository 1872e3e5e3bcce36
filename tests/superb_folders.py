"""A few recordings in the official layout of a SUPERB corpus, with its own names.

The sentences are read by espeak-ng: speech that features can be taken from, in about a second and
without any download. A synthetic speaker stands for each of the corpus's people.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from s3prl_speechclip.minis.synthesis import read_aloud
from s3prl_speechclip.minis.synthesis.voices import SPEAKERS

RATE = 16_000
READERS = ("Alex", "Linda", "M3", "Belinda", "F2", "Paul")
"""One for each person of the corpus, in turn."""


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


def read(path: Path, text: str, reader: int) -> None:
    """Have one of the `READERS` read a text into a 16 kHz file."""
    reading = read_aloud(text, SPEAKERS[READERS[reader % len(READERS)]], ())
    samples = soxr.resample(reading.samples.astype(np.float32) / 32768, reading.sample_rate, RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
