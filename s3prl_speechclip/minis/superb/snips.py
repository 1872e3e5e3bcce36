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
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..stamps.prepare import Progress
from ..synthesis import fetch_libraries
from .building import SYNTHETIC, Built, dealt, minutes
from .speakers import SPLITS, Saying, say

FOLDER = "SNIPS"
SIZES = {"train": 2500, "valid": 300, "test": 400}
OUTSIDE = "O"

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "PlayMusic": (
        "play {track} by {artist}",
        "i want to hear some {genre} music",
        "put on {artist} from {service}",
        "could you play {genre} on {service}",
        "let me listen to {track}",
    ),
    "AddToPlaylist": (
        "add {track} to my {playlist} playlist",
        "put a song by {artist} into the playlist {playlist}",
        "i would like {track} by {artist} in {playlist}",
    ),
    "GetWeather": (
        "will it be {condition_description} in {city} {timeRange}",
        "tell me the weather for {city} {timeRange}",
        "how {condition_temperature} will it get {timeRange} in {city}",
        "is there any chance of a {condition_description} day in {city}",
    ),
    "BookRestaurant": (
        "book a table for {party_size_number} at a {restaurant_type} in {city}",
        "find me a {cuisine} {restaurant_type} for {timeRange}",
        "we are {party_size_number} people and want {served_dish} {timeRange}",
        "reserve a {restaurant_type} that serves {served_dish} in {city}",
    ),
    "RateBook": (
        "give {object_name} {rating_value} stars",
        "i rate {object_name} {rating_value} out of six",
        "my opinion of {object_name} is {rating_value} points",
    ),
    "SearchScreeningEvent": (
        "when does {movie_name} start at the {location_name}",
        "is {movie_name} shown {timeRange}",
        "which films are at the {location_name} {timeRange}",
    ),
}
VALUES: Mapping[str, tuple[str, ...]] = {
    "artist": (
        "nina vale",
        "the paper kites",
        "red harbor",
        "samuel stone",
        "lady winter",
        "doctor beat",
        "the lost sailors",
        "maria fontana",
        "golden arrow",
        "big jim carter",
        "silver moon",
        "kate and the robots",
        "johnny summer",
        "the four seasons band",
        "emma brook",
    ),
    "track": (
        "river of gold",
        "dance until morning",
        "my old guitar",
        "seven days",
        "blue window",
        "walking home",
        "the last train",
        "never say never",
        "summer rain",
        "paper hearts",
        "over the hills",
        "a letter from london",
        "stay a little longer",
        "wild horses",
        "under the bridge",
    ),
    "genre": (
        "jazz",
        "folk",
        "rock",
        "classical",
        "country",
        "electronic",
        "blues",
        "soul",
        "opera",
        "hip hop",
        "reggae",
        "heavy metal",
    ),
    "service": ("music box", "radio nine", "the cloud", "my phone", "sound garden", "vinyl club"),
    "playlist": (
        "sunday morning",
        "party time",
        "workout",
        "road trip",
        "sleep well",
        "kitchen songs",
        "rainy day",
        "old favourites",
        "the best of winter",
        "study",
        "dinner for two",
    ),
    "city": (
        "london",
        "paris",
        "chicago",
        "new york",
        "berlin",
        "san francisco",
        "tokyo",
        "madrid",
        "cape town",
        "dublin",
        "toronto",
        "mexico city",
        "vienna",
        "oslo",
        "melbourne",
        "boston",
    ),
    "timeRange": (
        "tomorrow",
        "tonight",
        "next monday",
        "this weekend",
        "in two hours",
        "on friday evening",
        "at noon",
        "next week",
        "in the morning",
        "on the first of may",
        "after lunch",
        "at half past six",
    ),
    "condition_description": (
        "sunny",
        "rainy",
        "cloudy",
        "foggy",
        "windy",
        "snowy",
        "stormy",
        "clear",
    ),
    "condition_temperature": ("hot", "cold", "warm", "chilly", "freezing", "mild"),
    "party_size_number": (
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "twelve",
    ),
    "restaurant_type": (
        "restaurant",
        "bar",
        "pub",
        "coffee shop",
        "tea room",
        "diner",
        "bakery",
        "steak house",
    ),
    "cuisine": (
        "italian",
        "french",
        "indian",
        "thai",
        "greek",
        "mexican",
        "chinese",
        "turkish",
        "japanese",
        "spanish",
    ),
    "served_dish": (
        "pizza",
        "fish and chips",
        "onion soup",
        "pancakes",
        "noodles",
        "roast chicken",
        "ice cream",
        "grilled cheese",
        "potato salad",
        "apple pie",
        "rice and beans",
    ),
    "object_name": (
        "the green house",
        "a winter tale",
        "the silent sea",
        "ten small stories",
        "the history of bread",
        "walking with wolves",
        "the clock maker",
        "letters to nobody",
        "my father's garden",
        "the long road north",
        "a cat on the roof",
    ),
    "rating_value": ("zero", "one", "two", "three", "four", "five", "six"),
    "movie_name": (
        "the iron bridge",
        "two days in june",
        "lost in the desert",
        "the dancing bear",
        "night of the comet",
        "a very short summer",
        "the king's horse",
        "return to the island",
        "my neighbour the ghost",
        "fire on the mountain",
    ),
    "location_name": (
        "grand cinema",
        "palace theater",
        "old mill",
        "city screen",
        "river house",
        "star dome",
        "moon light hall",
    ),
}


@dataclass(frozen=True)
class Request:
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
            request = _filled(random.choice(TEMPLATES[intent]), intent, random)
            drawn.setdefault(request.words, request)
    return random.sample(list(drawn.values()), count)


def make(root: Path, archive: Path | None, progress: Progress) -> Built:
    """Fill a folder with the mini set."""
    random = Random("snips speakers")
    pool = requests(sum(SIZES.values()))
    split_requests: dict[str, list[Request]] = {}
    for split, size in SIZES.items():
        split_requests[split], pool = pool[:size], pool[size:]
    sayings, labels = [], []
    for split, own in split_requests.items():
        for k, (speaker, request) in enumerate(
            zip(dealt(SPLITS[split], len(own), random), own, strict=True)
        ):
            name = f"{speaker}-snips-{split}-{k}"
            text = " ".join(request.words)
            sayings.append(Saying(f"{FOLDER}/{split}/{name}.wav", speaker, text))
            labels.append((name, request))
    seconds = say(sayings, root, fetch_libraries(archive), progress)
    write_labels(root / FOLDER, labels, SPLITS)
    people = {split: len(names) for split, names in SPLITS.items()}
    return Built(
        SIZES,
        (
            f"{len(TEMPLATES)} intents, {len(VALUES)} slots, each sentence once, "
            f"{minutes(seconds)}",
            f"speakers, each in one split: {people['train']} train, {people['valid']} valid, "
            f"{people['test']} test",
            SYNTHETIC,
            "no person's voice, and the slots' values are the same in all splits",
        ),
    )


def write_labels(
    folder: Path,
    labels: Sequence[tuple[str, Request]],
    speakers: Mapping[str, Sequence[str]],
) -> None:
    """Write what s3prl reads beside the audio.

    Args:
        folder: the corpus' folder.
        labels: name of a recording and what is said in it.
        speakers: by split.
    """
    lines = []
    for name, request in labels:
        words = " ".join(word.upper() for word in request.words)
        tags = " ".join((OUTSIDE, *request.slots, request.intent))
        lines.append(f"{name} BOS {words} EOS\t{tags}\n")
    (folder / "all.iob.snips.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "slots.txt").write_text("\n".join((OUTSIDE, *sorted(VALUES))), encoding="utf-8")
    table = {f"{split}_speakers": list(names) for split, names in speakers.items()}
    text = json.dumps(table, indent=2)
    (folder / "speakers.json").write_text(text + "\n", encoding="utf-8")


def _filled(template: str, intent: str, random: Random) -> Request:
    words: list[str] = []
    slots: list[str] = []
    for part in template.split():
        slot = re.fullmatch(r"\{(\w+)\}", part)
        own = random.choice(VALUES[slot[1]]).split() if slot else [part]
        words += own
        slots += [slot[1] if slot else OUTSIDE] * len(own)
    return Request(tuple(words), tuple(slots), intent)
