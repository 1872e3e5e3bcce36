"""Recordings of people in Debian packages, with what they say."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import read_yaml
from ..data.audio import audio_info, read_audio
from ..errors import AudioError, CorpusError
from . import debian
from .synthesis import spoken, words_of

ASTERISK = "asterisk-core-sounds-en-wav"
TRANSCRIPTS = "asterisk-core-sounds-en"
FILLETS = "fillets-ng-data-nl"
HEDGEWARS = "hedgewars-data"
KTUBERLING = "ktuberling-data"
POCKETSPHINX = "pocketsphinx-testdata"
STAMPS = "tuxpaint-stamps-default"

_TABLE = read_yaml(Path(__file__).with_name("sources.yaml"))
PACKAGES: Mapping[str, Mapping[str, Any]] = _TABLE["packages"]
"""Licence of each package, and where its recordings lie."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_SPEECH = re.compile(r"[\[\]()<>*#@$]|\bA\.M\.|\bP\.M\.|\d{2}")
"""In transcripts of telephone prompts: noises, letters, and numbers of more than one digit."""
SPOKEN_AS_LETTERS = ("letters", "silence")
"""Folders of prompts without words."""
UNLIKE_ITS_NAME = ("tv_", "egypt_arch", "egypt_birds", "moon_fallingstar", "moon_ufo", "shorts")
"""Files of KTuberling whose names may not be what is said."""
SPELLING = {"broccolli": "broccoli", "sphynx": "sphinx", "palmtree": "palm tree"}

PHRASES = {
    "".join(letter for letter in phrase if letter.isalpha()): phrase for phrase in _TABLE["phrases"]
}
"""Phrases of Hedgewars by file name, in lower case."""
ENGLISH_PACKS: tuple[str, ...] = tuple(_TABLE["english_packs"])
LONGEST_PHRASE = 2.5  # seconds; actors put whole sentences into longer ones

STAMPS_FOLDER = Path("usr/share/tuxpaint/stamps")
SYMBOLS = "symbols/"  # pictures of letters, digits and signs
DESCRIPTION = re.compile(r"^(?P<stamp>.+)_desc(?:_(?P<language>[a-z]{2}(?:_[A-Z]{2})?))?$")
TRANSLATION = re.compile(r"^(?P<language>[A-Za-z@_]+)\.utf8\s*=(?P<text>.*)$")

BLOCK = 320  # samples, 20 ms
PAUSE = 8  # blocks
FADE = 160  # samples, 10 ms, by which pauses overlap
QUIET = 0.02  # of the loudest block
DIGITAL_SILENCE = 1e-5
ROOM_LEVEL = 0.01  # root mean square


@dataclass(frozen=True)
class Spoken:
    """A recording of a person."""

    path: Path
    package: str
    name: str
    """Path without suffix, in the package's folder of recordings."""
    speaker: str
    language: str = "en"
    """ISO 639, with region where the file name has it."""
    text: str = ""
    """Transcript, as it is written; empty where unknown."""

    @property
    def words(self) -> str:
        """The text in lower-case words, separated by spaces."""
        return " ".join(words(self.text))


@dataclass(frozen=True)
class Stamp:
    """A picture with its English caption and people's recordings of it."""

    name: str
    """Path without suffix."""
    image: Path
    caption: str
    recordings: tuple[Spoken, ...]


def words(text: str) -> list[str]:
    """Split a written English text into words in lower case, single digits as words.

    Apostrophes stay, hyphens separate words; what is neither letter nor digit is dropped.
    """
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.replace("’", "'"))
    return [word for word in re.findall(r"[a-z']+", text.lower()) if word.strip("'")]


def asterisk(archive: Path | None) -> list[Spoken]:
    """Read Asterisk's English telephone prompts, tones and noises too: one woman, 8 kHz."""
    texts = prompts(archive)
    found = _recordings(ASTERISK, archive)
    return [Spoken(p, ASTERISK, n, "allison", text=texts.get(n, "")) for n, p in found.items()]


def prompts(archive: Path | None) -> dict[str, str]:
    """Read the text of the telephone prompts by name, such as `digits/1`."""
    package = _package(TRANSCRIPTS, archive)
    path = package.find(f"usr/share/doc/{TRANSCRIPTS}/core-sounds-en.txt*")
    rows = (line.partition(":") for line in _lines(path) if not line.startswith(";"))
    return {name.strip(): text.strip() for name, _, text in rows if text.strip()}


def clear_prompts(archive: Path | None) -> list[Spoken]:
    """Read the telephone prompts that are words alone, in the order of their list."""
    known = {one.name: one for one in asterisk(archive)}
    return [
        known[name]
        for name, text in prompts(archive).items()
        if name in known and not NO_SPEECH.search(text) and not name.startswith(SPOKEN_AS_LETTERS)
    ]


def ktuberling(archive: Path | None) -> list[Spoken]:
    """Read KTuberling's names of things; a folder is a language, `sr@latin` one with its script."""
    recordings = []
    for name, path in _recordings(KTUBERLING, archive).items():
        language, word = path.parent.name, path.stem.rpartition("_")[2]
        text = SPELLING.get(word, word) if language == "en" else ""
        code = language.partition("@")[0]
        recordings.append(Spoken(path, KTUBERLING, name, code, code, text))
    return recordings


def named_things(archive: Path | None) -> list[Spoken]:
    """Read KTuberling's English names of things whose files are named by what is said."""
    return [
        replace(one, speaker="ktuberling")
        for one in ktuberling(archive)
        if one.language == "en"
        and one.path.suffix == ".ogg"
        and not one.path.stem.startswith(UNLIKE_ITS_NAME)
    ]


def fillets(archive: Path | None) -> list[Spoken]:
    """Read acted Dutch dialogues; the letter in a file's name is the fish that speaks."""
    who = {"m": "small", "v": "big"}
    recordings = []
    for name, path in _recordings(FILLETS, archive).items():
        letter = re.search(r"-([mv])-", path.stem)
        recordings.append(Spoken(path, FILLETS, name, who[letter[1]] if letter else "others", "nl"))
    return recordings


def hedgewars(archive: Path | None) -> list[Spoken]:
    """Read Hedgewars' phrases and cries: actors, one a voice pack; `speaker` is the pack."""
    recordings = []
    for name, path in _recordings(HEDGEWARS, archive).items():
        pack, text = path.parent.name, PHRASES.get(path.stem.lower(), "")
        language = _TABLE["pack_languages"].get(pack, "en")
        recordings.append(Spoken(path, HEDGEWARS, name, pack, language, text))
    return recordings


def english_phrases(archive: Path | None) -> list[Spoken]:
    """Read Hedgewars' short English phrases.

    Some voices share recordings, and some use one for several phrases: `Default` and `Classic` are
    one speaker, called `Default`; of files that hold the same bytes the first is kept where they
    have one name, none where they have several.
    """
    own = [one for one in hedgewars(archive) if one.speaker in ENGLISH_PACKS]
    names: dict[bytes, set[str]] = {}
    first: dict[bytes, Spoken] = {}
    for one in sorted(own, key=lambda one: one.speaker == "Classic"):
        content = hashlib.sha256(one.path.read_bytes()).digest()
        names.setdefault(content, set()).add(one.path.stem)
        if one.text:
            speaker = "Default" if one.speaker == "Classic" else one.speaker
            first.setdefault(content, replace(one, speaker=speaker))
    return [
        one
        for content, one in first.items()
        if len(names[content]) == 1 and audio_info(one.path).duration <= LONGEST_PHRASE
    ]


def pocketsphinx(archive: Path | None) -> list[Spoken]:
    """Read the recordings with transcripts that a recogniser is tested on: two speakers."""
    package = _package(POCKETSPHINX, archive)
    found = []
    for part, listing in (("librivox", "transcription"), ("cards", "cards.transcription")):
        path = package.find(f"usr/share/pocketsphinx/test/data/{part}/{listing}")
        for line in _lines(path):
            match = re.match(r"<s>(.*)</s> \((.*)\)", line)
            if match and (audio := path.with_name(f"{match[2]}.wav")).is_file():
                found.append(Spoken(audio, POCKETSPHINX, f"{part}/{match[2]}", part, text=match[1]))
    return found


def read_stamps(package: debian.Package) -> tuple[list[Stamp], tuple[str, ...]]:
    """List the stamps that have a recorded description, in a fixed order, and what was left out.

    `NAME.png` or `NAME.svg` is a picture, the first line of `NAME.txt` its English caption, the
    lines `xx.utf8=...` its captions in other languages, `NAME_desc[_xx].ogg` (or .wav) the caption
    read by a person. Other sounds are noises (`frog.ogg` croaks).

    Raises:
        CorpusError: the package holds no stamps, or one without a caption.
    """
    folder = package.root / STAMPS_FOLDER
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    files = {name: files[name] for name in sorted(files) if not name.startswith(SYMBOLS)}
    # A PNG replaces an SVG of the same name.
    pictures = {
        name.removesuffix(suffix): path
        for suffix in (".svg", ".png")
        for name, path in files.items()
        if name.endswith(suffix)
    }
    described: dict[str, list[tuple[Path, str]]] = {}
    noises = orphans = 0
    for file, path in files.items():
        if path.suffix in (".ogg", ".wav"):
            match = DESCRIPTION.match(path.stem)
            name = Path(file).with_name(match["stamp"]).as_posix() if match else ""
            if match and name in pictures:
                described.setdefault(name, []).append((path, match["language"] or ""))
            orphans += match is not None and name not in pictures
            noises += match is None
    if not described:
        raise CorpusError(
            f"'{folder}' holds no stamps with recordings; expected the files of the Debian "
            f"package {STAMPS}"
        )
    stamps = []
    for name, own in sorted(described.items()):
        texts = _captions(folder / f"{name}.txt")
        recordings = (
            Spoken(
                path, STAMPS, name, "stamps", code.replace("_", "-") or "en", texts.get(code, "")
            )
            for path, code in own
        )
        stamps.append(Stamp(name, pictures[name], texts[""], tuple(recordings)))
    notes = (
        f"left out: {SYMBOLS} (letters, digits and signs)",
        f"left out: {len(pictures) - len(described)} pictures without a recorded description",
        f"left out: {orphans} recorded descriptions without a picture",
        f"left out: {noises} sounds that describe nothing",
    )
    return stamps, notes


def _captions(path: Path) -> dict[str, str]:
    """Read a stamp's captions by language code; the English one has none."""
    try:
        caption, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read '{path}' ({error}); fetch '{STAMPS}' again") from error
    if not words_of(spoken(caption)):
        raise CorpusError(f"'{path}' has no caption in its first line; fetch '{STAMPS}' again")
    matches = filter(None, map(TRANSLATION.match, lines))
    return {match["language"]: match["text"].strip() for match in matches} | {"": caption.strip()}


def stamps_in_english(archive: Path | None) -> list[Spoken]:
    """Read the stamps' captions that a person reads in English."""
    stamps, _ = read_stamps(_package(STAMPS, archive))
    return [one for stamp in stamps for one in stamp.recordings if one.language == "en"]


def captions(archive: Path | None) -> list[str]:
    """Return the stamps' distinct English captions, in a fixed order."""
    return sorted({stamp.caption for stamp in read_stamps(_package(STAMPS, archive))[0]})


def read_scaled(recording: Spoken) -> np.ndarray:
    """Read a recording that is not silent and scale its peak to a half: (L,) at 16 kHz."""
    samples = read_audio(recording.path)
    peak = np.abs(samples).max()
    if peak == 0:
        raise AudioError(f"recording '{recording.path}' is silent")
    return samples * (0.5 / peak)


def room_noise(language: str, archive: Path | None) -> np.ndarray:
    """Join the pauses around KTuberling's words in a language: the noise of a room.

    Returns:
        (L,) float32 at 16 kHz, scaled to a root mean square of `ROOM_LEVEL`.
    """
    paths = [o.path for o in ktuberling(archive) if o.path.match(f"sounds/{language}/*.ogg")]
    parts = [part for path in paths for part in _pauses(read_audio(path))]
    joined = parts[0]
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    for part in parts[1:]:
        faded = joined[-FADE:] * ramp[::-1] + part[:FADE] * ramp
        joined = np.concatenate((joined[:-FADE], faded, part[FADE:]))
    return joined * (ROOM_LEVEL / np.sqrt(np.mean(joined**2)))


def licences(packages: Iterable[str]) -> list[str]:
    """Return a note on the licence of each package."""
    return [f"{package}: {PACKAGES[package]['licence']}" for package in packages]


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


def _package(name: str, archive: Path | None) -> debian.Package:
    return debian.packages([name], archive)[0]


def _recordings(name: str, archive: Path | None) -> dict[str, Path]:
    """List the recordings of a package by name, in a fixed order."""
    about = PACKAGES[name]
    root = _package(name, archive).find(about["folder"])
    paths = [path for suffix in about["suffixes"] for path in sorted(root.rglob(f"*{suffix}"))]
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return text.decode("utf-8", "replace").splitlines()
