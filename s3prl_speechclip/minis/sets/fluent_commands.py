"""Intent classification: spoken commands in the layout of Fluent Speech Commands.

    data/{train,valid,test}_data.csv    ,path,speakerId,transcription,action,object,location
    wavs/speakers/<speakerId>/<id>.wav

As there, 31 intents of an action, an object and a location, each worded in several ways, read by
speakers that are in one split only.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..making import SYNTHETIC, Built, Saying, dealt, minutes, say
from ..synthesis import fetch_libraries
from ..synthesis.voices import SPEAKERS, SPLITS

SIZES = {"train": 3000, "valid": 400, "test": 600}
COLUMNS = ("", "path", "speakerId", "transcription", "action", "object", "location")
WORDINGS = {
    "switch on": ("switch on {}", "turn on {}", "switch {} on", "turn {} on", "put {} on"),
    "switch off": ("switch off {}", "turn off {}", "switch {} off", "turn {} off"),
    "raise": ("raise {}", "turn up {}", "increase {}", "make {} higher", "turn {} up"),
    "lower": ("lower {}", "turn down {}", "reduce {}", "make {} lower", "turn {} down"),
    "open": ("open {}", "open up {}", "could you open {}"),
    "close": ("close {}", "shut {}", "could you close {}"),
    "fetch": ("fetch {}", "bring me {}", "go and get {}", "get me {}"),
}
OBJECTS = {
    "light": ("the light", "the lights", "the lamp"),
    "heater": ("the heater", "the heating"),
    "radio": ("the radio", "the music"),
    "volume": ("the volume", "the sound"),
    "temperature": ("the temperature", "the heat"),
    "window": ("the window", "the windows"),
    "door": ("the door", "the front door"),
    "towel": ("a towel", "my towel"),
    "newspaper": ("the newspaper", "today's paper"),
    "slippers": ("my slippers", "the slippers"),
}
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
            text = random.choice(WORDINGS[action]).format(random.choice(OBJECTS[thing]))
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
    people = {split: len(names) for split, names in SPLITS.items()}
    texts = {command.text for own in drawn.values() for command in own}
    return Built(
        SIZES,
        (
            f"{len(INTENTS)} intents, {len(texts)} sentences, {minutes(made)}",
            f"speakers, each in one split: {people['train']} train, {people['valid']} valid, "
            f"{people['test']} test",
            SYNTHETIC,
            "no person's voice: a score says how well features stay the same over synthetic "
            "speakers",
        ),
    )


def write_table(path: Path, audio: list[str], rows: list[Command]) -> None:
    """Write one of the corpus' tables."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for k, (place, row) in enumerate(zip(audio, rows, strict=True)):
            table.writerow((k, place, row.speaker, row.text, *row.intent))
