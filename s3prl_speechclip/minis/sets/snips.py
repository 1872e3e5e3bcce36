"""Slot filling: requests in the layout of Audio SNIPS as s3prl prepares it.

    SNIPS/{train,valid,test}/<Speaker>-snips-<split>-<n>.wav
    SNIPS/all.iob.snips.txt    <name> BOS WORDS EOS<tab>O slots Intent, a label for each word
    SNIPS/slots.txt            `O`, then the slots' names, no newline at the end
    SNIPS/speakers.json        the speakers of each split, which s3prl keeps in its configuration

As in s3prl's prepared files, a word's label is its slot's name without B- and I-, or `O`.
Speakers are in one split only, and no sentence is in two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from ...config import read_yaml
from ...structures import SAMPLE_RATE
from ..making import SYNTHETIC, Built, Saying, dealt, minutes, record, speakers_note, write_lines
from ..synthesis.voices import SPEAKERS, SPLITS

FOLDER = "SNIPS"
SIZES = {"train": 1200, "valid": 100, "test": 200}
OUTSIDE = "O"
MARGIN = SAMPLE_RATE // 20  # samples of silence around a sentence
_TABLE = read_yaml(Path(__file__).with_name("snips.yaml"))
TEMPLATES: Mapping[str, Sequence[str]] = _TABLE["templates"]
"""Sentences by intent, with slots in braces."""
VALUES: Mapping[str, Sequence[str]] = _TABLE["values"]
"""Values by slot."""


class Request(NamedTuple):
    """A sentence with a label for each word."""

    words: tuple[str, ...]
    """Lower case."""
    slots: tuple[str, ...]
    """Names of slots, `O` outside."""
    intent: str


def requests(count: int) -> list[Request]:
    """Draw distinct requests, every intent about equally often."""
    random = Random("snips")
    drawn: dict[tuple[str, ...], Request] = {}
    while len(drawn) < count:
        for intent in dealt(TEMPLATES, count - len(drawn), random):
            labelled: list[tuple[str, str]] = []
            for part in random.choice(TEMPLATES[intent]).split():
                slot = re.fullmatch(r"\{(\w+)\}", part)
                own = random.choice(VALUES[slot[1]]).split() if slot else [part]
                labelled += [(word, slot[1] if slot else OUTSIDE) for word in own]
            words, slots = zip(*labelled, strict=True)
            drawn.setdefault(words, Request(words, slots, intent))
    return random.sample(list(drawn.values()), count)


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    random = Random("snips speakers")
    pool = iter(requests(sum(SIZES.values())))
    sayings: dict[str, Saying] = {}
    lines = []
    for split, size in SIZES.items():
        for k, speaker in enumerate(dealt(SPLITS[split], size, random)):
            request = next(pool)
            name, text = f"{speaker}-snips-{split}-{k}", " ".join(request.words)
            sayings[f"{FOLDER}/{split}/{name}.wav"] = Saying(SPEAKERS[speaker], text)
            labels = f"{OUTSIDE} {' '.join(request.slots)} {request.intent}"
            lines.append(f"{name} BOS {text.upper()} EOS\t{labels}")
    made = record(sayings, root, archive, margin=MARGIN)
    folder = root / FOLDER
    write_lines(folder / "all.iob.snips.txt", lines)
    (folder / "slots.txt").write_text("\n".join((OUTSIDE, *sorted(VALUES))), encoding="utf-8")
    speakers = {f"{split}_speakers": list(names) for split, names in SPLITS.items()}
    write_lines(folder / "speakers.json", [json.dumps(speakers, indent=2)])
    return Built(
        SIZES,
        (
            f"{len(TEMPLATES)} intents, {len(VALUES)} slots, each sentence once, "
            f"{minutes(made.values())}",
            speakers_note(SPLITS),
            SYNTHETIC,
            "no person's voice, and the slots' values are the same in all splits",
        ),
    )
