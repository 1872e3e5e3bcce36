"""Intent classification: spoken commands in the layout of Fluent Speech Commands.

    data/{train,valid,test}_data.csv    ,path,speakerId,transcription,action,object,location
    wavs/speakers/<speakerId>/<id>.wav

As there, 31 intents of an action, an object and a location, each worded in several ways, read by
speakers that are in one split only.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

import pandas as pd

from ...config import read_yaml
from ..making import SYNTHETIC, Built, Saying, dealt, minutes, record, speakers_note
from ..synthesis.voices import SPEAKERS, SPLITS

SIZES = {"train": 3000, "valid": 400, "test": 600}
_TABLE = read_yaml(Path(__file__).with_name("fluent_commands.yaml"))
INTENTS = [intent for row in _TABLE["intents"] for intent in product(*row)]
"""Action, object and location."""


class Command(NamedTuple):
    """A sentence with its speaker and intent; fields are columns of the corpus' tables."""

    speakerId: str
    transcription: str
    action: str
    object: str
    location: str


def commands(split: str, count: int) -> list[Command]:
    """Draw commands: every intent and speaker equally often, no sentence twice by a speaker."""
    random = Random(f"fluent_commands {split}")
    drawn: dict[tuple[str, str], Command] = {}
    while len(drawn) < count:
        missing = count - len(drawn)
        speakers = dealt(SPLITS[split], missing, random)
        for speaker, intent in zip(speakers, dealt(INTENTS, missing, random), strict=True):
            action, thing, location = intent
            text = random.choice(_TABLE["wordings"][action])
            text = text.format(random.choice(_TABLE["objects"][thing]))
            text = random.choice(_TABLE["manners"]).format(text + _TABLE["locations"][location])
            drawn.setdefault((speaker, text), Command(speaker, text, *intent))
    return list(drawn.values())


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    sayings: dict[str, Saying] = {}
    (root / "data").mkdir()
    for split, size in SIZES.items():
        table = pd.DataFrame(commands(split, size))
        names = [
            f"wavs/speakers/{name}/{split}-{k:04d}.wav" for k, name in enumerate(table.speakerId)
        ]
        table.insert(0, "path", names)
        table.to_csv(root / "data" / f"{split}_data.csv")
        rows = zip(table.path, table.speakerId, table.transcription, strict=True)
        sayings |= {path: Saying(SPEAKERS[name], text) for path, name, text in rows}
    made = record(sayings, root, archive)
    return Built(
        SIZES,
        (
            f"{len(INTENTS)} intents, {len({s.text for s in sayings.values()})} sentences, "
            f"{minutes(made.values())}",
            speakers_note(SPLITS),
            SYNTHETIC,
            "no person's voice: a score says how well features stay the same over synthetic "
            "speakers",
        ),
    )
