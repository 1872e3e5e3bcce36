"""Keyword spotting: recorded phrases in the layout of Speech Commands v0.01.

    speech_commands_v0.01/<word>/<speaker>_nohash_<n>.wav
    speech_commands_v0.01/_background_noise_/*.wav
    speech_commands_v0.01/{validation,testing}_list.txt
    speech_commands_test_set_v0.01/<class>/<speaker>_nohash_<n>.wav
    classes.txt     ten words, `_unknown_`, `_silence_`; the real corpus has no such file

The speakers are the actors of a game, some forty phrases each, and synthetic speakers of the same
phrases; each is in one part only. s3prl sorts a recording into training or development by a hash
of its speaker's name, so names are chosen by that hash.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import soxr

from ...structures import SAMPLE_RATE
from .. import sources
from ..making import SYNTHETIC, Built, Saying, record, trimmed, write_audio, write_lines
from ..sources import PHRASES
from ..synthesis.voices import SPEAKERS, SPLITS

ROOT, TEST_ROOT = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
CLASSES_FILE = "classes.txt"
NOISE = "_background_noise_"
UNKNOWN, SILENCE = "_unknown_", "_silence_"
WORDS = (
    *("boring", "flawless", "grenade", "incoming", "justyouwait"),
    *("kamikaze", "stupid", "thisoneismine", "whatthe", "yessir"),
)
"""Phrases that different actors' recordings agree on; under other names, such as Hello, actors say
what suits their part."""
CLASSES = (*WORDS, UNKNOWN, SILENCE)
"""In the order of the real corpus' classes."""


class Part(NamedTuple):
    """Recordings of some speakers."""

    share: tuple[float, float]
    """Percent of the official hash, from and to."""
    actors: tuple[str, ...]
    tempos: tuple[float, ...] = (1.0,)
    room: str = ""
    """Language of KTuberling whose room is added in a second copy."""
    decibels: float = 0.0
    """Of the room below the phrase."""


PARTS = {
    "train": Part(
        (20.0, 100.0), ("Default", "Mobster", "Singer", "Surfer"), (1.0, 0.9, 1.1), "lt", 15.0
    ),
    "valid": Part((0.0, 10.0), ("British",)),
    "test": Part((10.0, 20.0), ("Pirate", "Russian"), (1.0,), "da", 10.0),
}
FOLDERS = {text: folder for folder, text in PHRASES.items()}
UNKNOWN_IN_TEST = 5  # phrases a speaker
MARGIN = SAMPLE_RATE // 10  # samples around a phrase
BACKGROUND = 10 * SAMPLE_RATE  # samples of a background file, at most


def make(root: Path, archive: Path | None) -> Built:
    """Fill a folder with the mini set."""
    spoken = sources.english_phrases(archive)
    rooms = {
        part.room: sources.room_noise(part.room, archive) for part in PARTS.values() if part.room
    }
    random = np.random.default_rng(0)
    written: dict[str, list[str]] = {name: [] for name in PARTS}
    actors: dict[str, str] = {}
    for name, part in PARTS.items():
        counts: Counter[str] = Counter()
        own = [one for one in spoken if one.speaker in part.actors]
        for one in own:
            samples = trimmed(sources.read_scaled(one), MARGIN)
            for variant in _variants(samples, part, rooms.get(part.room), random):
                stem = f"{FOLDERS[one.text]}/{speaker_id(one.speaker, name)}_nohash"
                path = f"{stem}_{counts[stem]}.wav"
                counts[stem] += 1
                write_audio(root / ROOT / path, variant)
                written[name].append(path)
        actors[name] = (
            f"{len(own)} recordings of actors ({', '.join(part.actors)}) and "
            f"{len(SPLITS[name])} synthetic speakers"
        )
    sayings: dict[str, Saying] = {}
    for name, speakers in SPLITS.items():
        for speaker in speakers:
            file = f"{speaker_id(speaker, name)}_nohash_0.wav"
            paths = {f"{folder}/{file}": text for folder, text in PHRASES.items()}
            sayings |= {f"{ROOT}/{p}": Saying(SPEAKERS[speaker], t) for p, t in paths.items()}
            written[name] += paths
    record(sayings, root, archive)
    backgrounds = write_backgrounds(root / ROOT / NOISE, rooms[PARTS["train"].room])
    silences = write_test(root, written["test"], rooms[PARTS["test"].room])
    write_lines(root / ROOT / "validation_list.txt", sorted(written["valid"]))
    write_lines(root / ROOT / "testing_list.txt", sorted(written["test"]))
    write_lines(root / CLASSES_FILE, CLASSES)
    return Built(
        {
            "train": len(written["train"]) + backgrounds,
            "dev": len(written["valid"]) + backgrounds,
            "test": len(list((root / TEST_ROOT).rglob("*.wav"))),
        },
        (
            f"{len(WORDS)} words: {', '.join(WORDS)}; {len(PHRASES) - len(WORDS)} other "
            f"phrases are {UNKNOWN}",
            f"train: {actors['train']}; the actors' at {len(PARTS['train'].tempos)} tempos, "
            "without and with the noise of a room",
            f"dev: {actors['valid']}",
            f"test: {actors['test']}, {UNKNOWN_IN_TEST} {UNKNOWN} phrases of each "
            "speaker, the actors' without and with the noise of another room; "
            f"{silences} pieces of {SILENCE}",
            "few people, and acted speech: differences of a few per cent mean nothing",
            *sources.licences([sources.HEDGEWARS]),
            *(note.replace(":", " (rooms):") for note in sources.licences([sources.KTUBERLING])),
            SYNTHETIC,
            "the shipped mini speech encoder heard these recordings, without labels",
        ),
    )


def speaker_id(name: str, part: str) -> str:
    """Return a speaker's name that the official hash sorts into a part."""
    low, high = PARTS[part].share
    digests = (hashlib.sha1(f"{name} {k}".encode()).hexdigest()[:8] for k in count())
    return next(digest for digest in digests if low <= official_percentage(digest) < high)


def official_percentage(speaker: str) -> float:
    """Hash a speaker's name to 0 to 100, as Speech Commands' README does: 10 % is validation."""
    largest = 2**27 - 1  # recordings a class that the rule allows for
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (largest + 1)
    return number * (100.0 / largest)


def write_backgrounds(folder: Path, room: np.ndarray) -> int:
    """Write the noises that silence is cut from: a room, and white and pink noise as officially."""
    whole = max(1, len(room) // BACKGROUND)
    noises = {f"room_{k}": piece for k, piece in enumerate(np.array_split(room, whole))}
    random = np.random.default_rng(1)
    white = random.standard_normal(BACKGROUND)
    spectrum = np.fft.rfft(random.standard_normal(BACKGROUND))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)))
    for name, noise in (("white_noise", white), ("pink_noise", pink)):
        noises[name] = noise * (sources.ROOM_LEVEL / np.sqrt(np.mean(noise**2)))
    for name, noise in noises.items():
        write_audio(folder / f"{name}.wav", noise)
    return len(noises)


def write_test(root: Path, paths: Sequence[str], room: np.ndarray) -> int:
    """Write the test folder from the training folder; return its seconds of silence."""
    copied = {path: path for path in paths if path.partition("/")[0] in WORDS}  # target, source
    unknown: dict[str, list[str]] = {}
    for path in paths:
        if path not in copied:
            unknown.setdefault(Path(path).name.partition("_")[0], []).append(path)
    for speaker, own in sorted(unknown.items()):
        words = sorted({path.partition("/")[0] for path in own})
        chosen = Random(speaker).sample(words, min(UNKNOWN_IN_TEST, len(words)))
        for number, path in enumerate(p for p in own if p.partition("/")[0] in chosen):
            copied[f"{UNKNOWN}/{speaker}_nohash_{number}.wav"] = path
    for target, source in copied.items():
        (root / TEST_ROOT / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / ROOT / source, root / TEST_ROOT / target)
    seconds = room[: len(room) // SAMPLE_RATE * SAMPLE_RATE].reshape(-1, SAMPLE_RATE)
    for k, second in enumerate(seconds):
        write_audio(root / TEST_ROOT / SILENCE / f"{k:08x}_nohash_0.wav", second)
    return len(seconds)


def _variants(
    samples: np.ndarray, part: Part, room: np.ndarray | None, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield a phrase as it is and as it would sound elsewhere."""
    for tempo in part.tempos:
        played = samples if tempo == 1 else soxr.resample(samples, SAMPLE_RATE * tempo, SAMPLE_RATE)
        yield played
        if room is not None:
            start = int(random.integers(0, len(room) - len(played)))
            noise = room[start : start + len(played)]
            ratio = np.sqrt(np.mean(played**2) / np.mean(noise**2)) * 10 ** (-part.decibels / 20)
            yield played + ratio * noise
