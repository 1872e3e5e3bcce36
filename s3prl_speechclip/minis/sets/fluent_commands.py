"""Intent classification: spoken commands in the layout of Fluent Speech Commands.

    data/{train,valid,test}_data.csv    ,path,speakerId,transcription,action,object,location
    wavs/speakers/<speakerId>/<id>.wav

As there, 31 intents of an action, an object and a location, each worded in several ways, read by
speakers that are in one split only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd

from ...config import read_yaml
from ..making import SYNTHETIC, Built, Saying, dealt, minutes, say, speakers_note
from ..synthesis import fetch_libraries
from ..synthesis.voices import SPEAKERS, SPLITS

SIZES = {"train": 3000, "valid": 400, "test": 600}
_TABLE = read_yaml(Path(__file__).with_name("fluent_commands.yaml"))
PLACES = {"none": "", "kitchen": " in the kitchen", "bedroom": " in the bedroom"}
MANNERS = ("{}", "{}", "please {}", "{} please", "{} now")

INTENTS = tuple(
    (action, thing, place)
    for actions, things, places in (
        (("switch on", "switch off"), ("light", "heater", "radio"), tuple(PLACES)),
        (("raise", "lower"), ("volume", "temperature"), ("none",)),
        (("open", "close"), ("window",), ("kitchen", "bedroom")),
        (("open", "close"), ("door",), ("none",)),
        (("fetch",), ("towel", "newspaper", "slippers"), ("none",)),
    )
    for action in actions
    for thing in things
    for place in places
)


@dataclass(frozen=True)
class Command:
    """A sentence with its speaker and intent."""

    speaker: str
    text: str
    intent: tuple[str, str, str]
    """Action, object, location."""


def commands(split: str, count: int) -> list[Command]:
    """Draw commands: every intent and speaker equally often, no sentence twice by a speaker."""
    random = Random(f"fluent_commands {split}")
    places = [str(k) for k in range(len(INTENTS))]
    drawn: dict[tuple[str, str], Command] = {}
    while len(drawn) < count:
        missing = count - len(drawn)
        speakers = dealt(SPLITS[split], missing, random)
        for speaker, place in zip(speakers, dealt(places, missing, random), strict=True):
            intent = INTENTS[int(place)]
            action, thing, location = intent
            text = random.choice(_TABLE["wordings"][action])
            text = text.format(random.choice(_TABLE["objects"][thing]))
            text = random.choice(MANNERS).format(text + PLACES[location])
            drawn.setdefault((speaker, text), Command(speaker, text, intent))
    return list(drawn.values())


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    drawn = {split: commands(split, size) for split, size in SIZES.items()}
    sayings = {
        split: [
            Saying(
                f"wavs/speakers/{one.speaker}/{split}-{k:04d}.wav", SPEAKERS[one.speaker], one.text
            )
            for k, one in enumerate(own)
        ]
        for split, own in drawn.items()
    }
    made = say([s for own in sayings.values() for s in own], root, fetch_libraries(archive))
    for split, own in drawn.items():
        write_table(root / "data" / f"{split}_data.csv", [s.path for s in sayings[split]], own)
    texts = {command.text for own in drawn.values() for command in own}
    return Built(
        SIZES,
        (
            f"{len(INTENTS)} intents, {len(texts)} sentences, {minutes(made.values())}",
            speakers_note(SPLITS),
            SYNTHETIC,
            "no person's voice: a score says how well features stay the same over synthetic "
            "speakers",
        ),
    )


def write_table(path: Path, audio: list[str], rows: list[Command]) -> None:
    """Write one of the corpus' tables."""
    path.parent.mkdir(exist_ok=True)
    table = pd.DataFrame(
        {
            "path": audio,
            "speakerId": [row.speaker for row in rows],
            "transcription": [row.text for row in rows],
        }
    )
    table[["action", "object", "location"]] = [row.intent for row in rows]
    table.to_csv(path)
