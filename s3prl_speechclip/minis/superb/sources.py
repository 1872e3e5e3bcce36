"""Recordings of people, with what they say, in Debian packages."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.audio import audio_info, read_audio
from ...errors import AudioError, CorpusError
from .. import debian
from ..stamps import PACKAGE as STAMPS_PACKAGE
from ..stamps.inventory import STAMPS, take

ASTERISK = ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-en")
"""The prompts, and what is said in them."""
KTUBERLING = "ktuberling-data"
HEDGEWARS = "hedgewars-data"
POCKETSPHINX = "pocketsphinx-testdata"

LICENCES = {
    ASTERISK[0]: "CC-BY-SA-3.0, Allison Smith",
    KTUBERLING: "GPL-2+",
    HEDGEWARS: "GFDL-1.3",
    POCKETSPHINX: "BSD-2-Clause",
    STAMPS_PACKAGE: "GPL-2+ and others, see its copyright file",
}

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_SPEECH = re.compile(r"[\[\]()<>*#@$]|\bA\.M\.|\bP\.M\.")
SPOKEN_AS_LETTERS = ("letters", "silence")
"""Folders of Asterisk's prompts without words."""
UNLIKE_ITS_NAME = ("tv_", "egypt_arch", "egypt_birds", "moon_fallingstar", "moon_ufo", "shorts")
"""KTuberling's files whose names may not be what is said."""

PHRASES = {
    "Amazing": "amazing",
    "Boring": "boring",
    "Brilliant": "brilliant",
    "Bugger": "bugger",
    "Byebye": "bye bye",
    "Comeonthen": "come on then",
    "Coward": "coward",
    "Cutitout": "cut it out",
    "Drat": "drat",
    "Enemydown": "enemy down",
    "Excellent": "excellent",
    "Fire": "fire",
    "Firstblood": "first blood",
    "Flawless": "flawless",
    "Flyaway": "fly away",
    "Gonnagetyou": "gonna get you",
    "Grenade": "grenade",
    "Hello": "hello",
    "Hurry": "hurry",
    "Illgetyou": "i'll get you",
    "Incoming": "incoming",
    "Justyouwait": "just you wait",
    "Kamikaze": "kamikaze",
    "Leavemealone": "leave me alone",
    "Melon": "melon",
    "Missed": "missed",
    "Nutter": "nutter",
    "Ohdear": "oh dear",
    "Reinforcements": "reinforcements",
    "Revenge": "revenge",
    "Runaway": "run away",
    "Sameteam": "same team",
    "Solong": "so long",
    "Stupid": "stupid",
    "Takecover": "take cover",
    "Thisoneismine": "this one is mine",
    "Traitor": "traitor",
    "Victory": "victory",
    "Watchit": "watch it",
    "Watchthis": "watch this",
    "Whatthe": "what the",
    "Yessir": "yes sir",
    "Youllregretthat": "you'll regret that",
}
"""Hedgewars' files that are named for words; the others are shouts, groans and laughter."""
CLEAR_PHRASES = (
    "boring",
    "fire",
    "flawless",
    "fly away",
    "grenade",
    "incoming",
    "just you wait",
    "kamikaze",
    "oh dear",
    "revenge",
    "stupid",
    "this one is mine",
    "watch this",
    "what the",
    "yes sir",
)
"""Those that different actors' recordings agree on: aligned with another actor's recordings, a
phrase's cepstra are nearer to the same phrase than to two thirds of the others. Under other names,
such as Hello, actors say what suits their part."""
ENGLISH_PACKS = (
    "British",
    "Classic",
    "Default",
    "Mobster",
    "Pirate",
    "Russian",
    "Singer",
    "Surfer",
)
"""Hedgewars' voices that speak English; `Robot` is an effect, and `HillBilly` agrees with no other
on any phrase."""
BLOCK = 320  # samples, 20 ms
PAUSE = 8  # blocks
FADE = 160  # samples, 10 ms, by which pauses overlap
QUIET = 0.02  # of the loudest block
DIGITAL_SILENCE = 1e-5
ROOM_LEVEL = 0.01
LONGEST_PHRASE = 2.5  # seconds; actors put whole sentences into longer ones


@dataclass(frozen=True)
class Spoken:
    """A recording of a person."""

    source: Path
    speaker: str
    text: str
    """Lower-case words, parted by spaces."""


def words(text: str) -> list[str]:
    """Give the words of a written English text, in lower case, single digits as words.

    Apostrophes stay, hyphens part words; what is neither letter nor digit goes.
    """
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.replace("’", "'"))
    return [word for word in re.findall(r"[a-z']+", text.lower()) if word.strip("'")]


def asterisk(archive: Path | None) -> list[Spoken]:
    """Read Asterisk's English telephone prompts: one woman, 8 kHz."""
    sounds, texts = debian.packages(ASTERISK, archive)
    folder = _only(sounds, "usr/share/asterisk/sounds/*_Allison")
    listing = _only(texts, "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt*")
    found = []
    for line in _lines(listing):
        name, colon, text = line.partition(":")
        path = folder / f"{name.strip()}.wav"
        sayable = colon and not NO_SPEECH.search(text) and not re.search(r"\d{2}", text)
        if sayable and not name.startswith(SPOKEN_AS_LETTERS) and path.is_file():
            found.append(Spoken(path, "allison", " ".join(words(text))))
    return _some(found, ASTERISK[0])


def ktuberling(archive: Path | None) -> list[Spoken]:
    """Read KTuberling's English names of things: one speaker."""
    (package,) = debian.packages([KTUBERLING], archive)
    files = sorted((package.root / "usr/share/ktuberling/sounds/en").glob("*.ogg"))
    named = [path for path in files if not path.stem.startswith(UNLIKE_ITS_NAME)]
    spelling = {"broccolli": "broccoli", "sphynx": "sphinx", "palmtree": "palm tree"}
    found = []
    for path in named:
        name = path.stem.rpartition("_")[2]
        found.append(Spoken(path, "ktuberling", spelling.get(name, name)))
    return _some(found, KTUBERLING)


def stamps_in_english(archive: Path | None) -> list[Spoken]:
    """Read the stamps' captions that a person reads in English."""
    (package,) = debian.packages([STAMPS_PACKAGE], archive)
    inventory = take(package.root / STAMPS)
    return _some(
        [
            Spoken(inventory.folder / recording.path, "stamps", " ".join(words(stamp.caption)))
            for stamp in inventory.stamps
            for recording in stamp.recordings
            if recording.language == "en"
        ],
        STAMPS_PACKAGE,
    )


def hedgewars(archive: Path | None) -> list[Spoken]:
    """Read Hedgewars' English phrases: actors, one a voice; `speaker` is the voice's name.

    Some voices share recordings, and some use one for several phrases: `Default` and `Classic` are
    one speaker, called `Default`; of files that hold the same bytes the first is kept where they
    have one name, none where they have several.
    """
    (package,) = debian.packages([HEDGEWARS], archive)
    folder = package.root / "usr/share/games/hedgewars/Data/Sounds/voices"
    names: dict[bytes, set[str]] = {}
    first: dict[bytes, Spoken] = {}
    for voice in sorted(ENGLISH_PACKS, key=lambda name: name == "Classic"):
        for path in sorted((folder / voice).glob("*.ogg")):
            content = hashlib.sha256(path.read_bytes()).digest()
            names.setdefault(content, set()).add(path.stem)
            if path.stem in PHRASES:
                speaker = "Default" if voice == "Classic" else voice
                first.setdefault(content, Spoken(path, speaker, PHRASES[path.stem]))
    found = [spoken for content, spoken in first.items() if len(names[content]) == 1]
    short = [s for s in found if audio_info(s.source).duration <= LONGEST_PHRASE]
    return _some(short, HEDGEWARS)


def heard(spoken: Spoken) -> np.ndarray:
    """Read a recording and scale its peak to a half: (L,) at 16 kHz.

    Raises:
        AudioError: it cannot be read or is silent.
    """
    samples = read_audio(spoken.source)
    peak = np.abs(samples).max()
    if peak == 0:
        raise AudioError(f"recording '{spoken.source}' is silent")
    return samples * (0.5 / peak)


def quiet_parts(language: str, archive: Path | None) -> np.ndarray:
    """Join the pauses around KTuberling's words in a language: the noise of a room.

    Returns:
        (L,) float32 at 16 kHz, scaled to a root mean square of `ROOM_LEVEL`.
    """
    (package,) = debian.packages([KTUBERLING], archive)
    folder = package.root / f"usr/share/ktuberling/sounds/{language}"
    parts = [part for path in sorted(folder.glob("*.ogg")) for part in _pauses(read_audio(path))]
    if not parts:
        raise CorpusError(
            f"the package '{KTUBERLING}' holds no pauses in '{folder.name}'; give another version "
            "of it with --archive FILE"
        )
    joined = parts[0]
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    for part in parts[1:]:
        faded = joined[-FADE:] * ramp[::-1] + part[:FADE] * ramp
        joined = np.concatenate((joined[:-FADE], faded, part[FADE:]))
    return joined * (ROOM_LEVEL / np.sqrt(np.mean(joined**2)))


def captions(archive: Path | None) -> list[str]:
    """Give the stamps' distinct English captions, in a fixed order."""
    (package,) = debian.packages([STAMPS_PACKAGE], archive)
    return sorted({stamp.caption for stamp in take(package.root / STAMPS).stamps})


def pocketsphinx(archive: Path | None) -> list[Spoken]:
    """Read the recordings with transcripts that a recogniser is tested on: two speakers."""
    (package,) = debian.packages([POCKETSPHINX], archive)
    folder = package.root / "usr/share/pocketsphinx/test/data"
    found = []
    for part, listing in (("librivox", "transcription"), ("cards", "cards.transcription")):
        for line in _lines(_only(package, f"usr/share/pocketsphinx/test/data/{part}/{listing}")):
            match = re.match(r"<s>(.*)</s> \((.*)\)", line)
            if match and (folder / part / f"{match[2]}.wav").is_file():
                text = " ".join(words(match[1]))
                found.append(Spoken(folder / part / f"{match[2]}.wav", part, text))
    return _some(found, POCKETSPHINX)


def _pauses(samples: np.ndarray) -> list[np.ndarray]:
    """Cut out what is far below the loudest part, for at least `PAUSE` blocks, and not silence."""
    blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK)
    level = np.sqrt((blocks**2).mean(axis=1))
    quiet = (level < QUIET * level.max()) & (level > DIGITAL_SILENCE)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.astype(int), [0]))))
    spans = zip(edges[::2], edges[1::2], strict=True)
    # The block at each edge may hold the end of a sound.
    return [
        blocks[start + 1 : stop - 1].reshape(-1) for start, stop in spans if stop - start >= PAUSE
    ]


def _only(package: debian.Package, pattern: str) -> Path:
    found = sorted(package.root.glob(pattern))
    if not found:
        raise CorpusError(
            f"the package '{package.name}' {package.version} holds no '{pattern}'; give another "
            "version of it with --archive FILE"
        )
    return found[0]


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return text.decode("utf-8").splitlines()


def _some(found: list[Spoken], package: str) -> list[Spoken]:
    if not found:
        raise CorpusError(
            f"the package '{package}' holds no recordings where they are expected; give another "
            "version of it with --archive FILE"
        )
    return found
