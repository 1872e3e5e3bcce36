"""The synthetic voices: of the stamps, of the other mini sets, and of the mini HuBERT's speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...config import read_yaml

_TABLE = read_yaml(Path(__file__).with_name("voices.yaml"))


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A synthetic speaker."""

    engine: Literal["flite", "espeak"]
    name: str
    """The engine's own name of it, such as `slt`, or accent and variant as in `en-us+f3`."""
    stretch: float = 1.0
    """flite: duration of sounds, 1 = the voice's own."""
    rate: int = 170
    """espeak-ng: words per minute."""
    pitch: int = 50
    """espeak-ng: 0 to 99."""


_CMU = {f"flite-{name}": Voice(engine="flite", name=name) for name in _TABLE["flite"]}

VOICES: Mapping[str, Voice] = _CMU | {
    f"espeak-{name}": Voice(engine="espeak", name=name, **settings)
    for name, settings in _TABLE["stamps_voices"].items()
}
"""Voices of the stamps: women and men, flite's speakers and espeak-ng's accents, slow and fast."""

HELD_OUT_VOICES: Mapping[str, str] = _TABLE["stamps_held_out"]
"""Split of the stamps by voice; no other mini set trains on these voices."""


def _set_speaker(place: int, variant: str) -> Voice:
    """Return a voice with an accent, rate and pitch of its own; neighbours differ in all three."""
    accents = _TABLE["set_accents"]
    name = f"{accents[place % len(accents)]}+{variant}"
    rate, pitch = 140 + 7 * (place * 4 % 9), 35 + 6 * (place * 3 % 7)
    return Voice(engine="espeak", name=name, rate=rate, pitch=pitch)


SPEAKERS: Mapping[str, Voice] = {
    name.removeprefix("flite-").removesuffix("16").capitalize(): voice
    for name, voice in _CMU.items()
} | {name.capitalize(): _set_speaker(k, name) for k, name in enumerate(_TABLE["set_speakers"])}
"""Speakers of the SUPERB and ZeroSpeech mini sets. Names of letters and digits, none the beginning
of another, as s3prl's SNIPS reader needs."""

AMERICAN = tuple(name for name, voice in SPEAKERS.items() if voice.name.startswith("en-us+"))
"""espeak-ng's speakers whose sounds are those of the CMU dictionary."""

_HELD_OUT = {"valid": tuple(_TABLE["set_valid"]), "test": tuple(_TABLE["set_test"])}
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": tuple(name for name in SPEAKERS if name not in sum(_HELD_OUT.values(), ())),
    **_HELD_OUT,
}
"""Speakers of the sets that have synthetic ones only; in valid and test a CMU voice each."""


def training_speakers() -> dict[str, Voice]:
    """Return espeak-ng's speakers of the mini HuBERT's speech, none a voice of the stamps."""
    accents = _TABLE["training_accents"]
    random = np.random.default_rng(4)
    found = {}
    for number, variant in enumerate(_TABLE["training_variants"]):
        name = f"{accents[number % len(accents)]}+{variant}"
        rate, pitch = int(random.integers(130, 211)), int(random.integers(20, 81))
        found[f"espeak-{name}"] = Voice(engine="espeak", name=name, rate=rate, pitch=pitch)
    return {name: voice for name, voice in found.items() if name not in VOICES}
