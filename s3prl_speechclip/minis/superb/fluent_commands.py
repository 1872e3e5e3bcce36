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

from ..stamps.prepare import Progress
from ..synthesis import fetch_libraries
from .building import SYNTHETIC, Built, dealt, minutes
from .speakers import SPLITS, Saying, say

SIZES = {"train": 3000, "valid": 400, "test": 600}
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
    """A sentence and what it asks for."""

    text: str
    intent: tuple[str, str, str]
    """Action, object, location."""


def commands(split: str, count: int) -> list[tuple[str, Command]]:
    """Draw commands and who says them: every intent and speaker equally often, no pair twice."""
    random = Random(f"fluent_commands {split}")
    places = [str(k) for k in range(len(INTENTS))]
    drawn: dict[tuple[str, str], Command] = {}
    while len(drawn) < count:
        missing = count - len(drawn)
        who = dealt(SPLITS[split], missing, random)
        for speaker, place in zip(who, dealt(places, missing, random), strict=True):
            command = _worded(INTENTS[int(place)], random)
            drawn.setdefault((speaker, command.text), command)
    return [(speaker, command) for (speaker, _), command in drawn.items()]


def make(root: Path, archive: Path | None, progress: Progress) -> Built:
    """Fill a folder with the mini set."""
    libraries = fetch_libraries(archive)
    rows = {split: commands(split, size) for split, size in SIZES.items()}
    sayings = {
        split: [
            Saying(f"wavs/speakers/{speaker}/{split}-{k:04d}.wav", speaker, command.text)
            for k, (speaker, command) in enumerate(drawn)
        ]
        for split, drawn in rows.items()
    }
    seconds = say([s for some in sayings.values() for s in some], root, libraries, progress)
    (root / "data").mkdir()
    for split, drawn in rows.items():
        write_table(
            root / "data" / f"{split}_data.csv",
            [
                (s.path, speaker, command)
                for s, (speaker, command) in zip(sayings[split], drawn, strict=True)
            ],
        )
    people = {split: len(names) for split, names in SPLITS.items()}
    texts = {command.text for drawn in rows.values() for _, command in drawn}
    return Built(
        SIZES,
        (
            f"{len(INTENTS)} intents, {len(texts)} sentences, {minutes(seconds)}",
            f"speakers, each in one split: {people['train']} train, {people['valid']} valid, "
            f"{people['test']} test",
            SYNTHETIC,
            "no person's voice: a score says how well features stay the same over synthetic "
            "speakers",
        ),
    )


def write_table(path: Path, rows: list[tuple[str, str, Command]]) -> None:
    """Write one of the corpus' tables of (audio path, speaker, command)."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(("", "path", "speakerId", "transcription", "action", "object", "location"))
        for k, (audio, speaker, command) in enumerate(rows):
            table.writerow((k, audio, speaker, command.text, *command.intent))


def _worded(intent: tuple[str, str, str], random: Random) -> Command:
    action, thing, place = intent
    text = random.choice(WORDINGS[action]).format(random.choice(OBJECTS[thing]))
    return Command(random.choice(MANNERS).format(text + PLACES[place]), intent)
