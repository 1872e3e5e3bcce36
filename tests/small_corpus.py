"""A corpus in Flickr8k's official layout, small enough to train on in seconds.

Each image is a flat colour, and each caption of it a chord whose pitches belong to that colour, so
that there is something to learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 16_000
CAPTIONS = 5
WORDS = ("red", "green", "blue", "white", "black", "yellow", "brown", "pink", "dark", "bright")


def write_flickr8k(root: Path, train: int = 8, dev: int = 4, test: int = 4) -> Path:
    """Write the corpus; gives its folder."""
    random = np.random.default_rng(0)
    (root / "Images").mkdir(parents=True)
    wavs = root / "flickr_audio" / "wavs"
    wavs.mkdir(parents=True)
    captions = []
    number = 0
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        names = []
        for _ in range(count):
            name = f"{1000 + number}_{split}"
            names.append(f"{name}.jpg")
            colour = tuple(int(c) for c in random.integers(0, 256, 3))
            Image.new("RGB", (48, 40), colour).save(root / "Images" / f"{name}.jpg")
            pitches = [200 + 8 * c for c in colour]
            for k in range(CAPTIONS):
                soundfile.write(wavs / f"{name}_{k}.wav", chord(pitches, random), RATE)
                word = WORDS[number % len(WORDS)]
                captions.append(f"{name}.jpg#{k}\tA {word} picture number {number} .")
            number += 1
        lines = "\n".join(names) + "\n"
        (root / f"Flickr_8k.{split}Images.txt").write_text(lines, encoding="utf-8")
    (root / "Flickr8k.token.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return root


def write_files(*paths: Path, rate: int = RATE, seconds: float = 0.05) -> None:
    """Write silent recordings and plain images, with their folders."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".wav":
            soundfile.write(path, np.zeros(round(seconds * rate)), rate)
        else:
            Image.new("RGB", (8, 8)).save(path)


def chord(pitches: list[int], random: np.random.Generator) -> np.ndarray:
    """Make 0.3 to 0.6 s of tones and a little noise."""
    seconds = random.uniform(0.3, 0.6)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * pitch * time) for pitch in pitches)
    return 0.2 * tones + 0.01 * random.standard_normal(len(time))


SMALL = ",,".join(
    (
        "model.speech_encoder.architecture.num_hidden_layers=1",
        "model.speech_encoder.architecture.hidden_size=64",
        "model.speech_encoder.architecture.intermediate_size=64",
        "model.speech_encoder.architecture.conv_dim=[16,16,16,16,16,16,16]",
        "model.clip.architecture.text_cfg.layers=1",
        "model.clip.architecture.text_cfg.width=64",
        "model.clip.architecture.embed_dim=32",
        "model.clip.architecture.vision_cfg.image_size=64",
        "model.attention.feedforward=64",
        "runner.precision=fp32",
        "runner.log_step=1",
        "runner.spectral_start_steps=2",
        "data.batch_size=8",
        "data.num_workers=0",
    )
)
"""Overrides that make the preset `mini_scratch` a model of milliseconds."""
