"""Stamps in Debian's package tuxpaint-stamps-default: pictures, captions, recordings.

`NAME.png` or `NAME.svg` is a picture, the first line of `NAME.txt` its English caption, the lines
`xx.utf8=...` its captions in other languages, `NAME_desc[_xx].ogg` (or .wav) the caption read by a
person. Other sounds are noises (`frog.ogg` croaks) and are no descriptions.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CorpusError
from . import debian
from .synthesis import spoken, words_of

logger = logging.getLogger(__name__)

PACKAGE = "tuxpaint-stamps-default"
VERSION = "2022.06.04-1"
DIGEST = "dad48bdfb9c55efca10a38e38c922fee6b83308b6be1f0e50bb90b945e16c198"
"""SHA-256 of the version's content, as `Inventory.digest`."""

FOLDER = Path("usr/share/tuxpaint/stamps")
LEFT_OUT = "symbols"
"""Letters, digits and signs: pictures of text."""

RECORDING = re.compile(r"^(?P<stamp>.+)_desc(?:_(?P<language>[a-z]{2}(?:_[A-Z]{2})?))?$")
TRANSLATION = re.compile(r"^(?P<language>[A-Za-z@_]+)\.utf8\s*=(?P<text>.*)$")
SOUNDS = (".ogg", ".wav")
PICTURES = (".png", ".svg")  # the first that there is


@dataclass(frozen=True)
class HumanRecording:
    """A recording of a person who reads a stamp's caption."""

    path: str
    """Relative to the stamps' folder, as all paths here."""
    language: str
    """ISO 639-1 code, with region where the file name has it."""
    text: str
    """Caption in that language; empty where it is not written."""
    file_hash: str
    """SHA-256 of the file."""
    sound: str = ""
    """SHA-256 of the decoded samples, once known: some files differ and sound the same."""


@dataclass(frozen=True)
class Stamp:
    """A picture with its caption and its recordings."""

    name: str
    """Path without suffix."""
    image: str
    caption: str
    """English."""
    recordings: tuple[HumanRecording, ...]
    pixels: str = ""
    """SHA-256 of the decoded picture, once it is known."""


@dataclass(frozen=True)
class Inventory:
    """The package's content, in a fixed order."""

    folder: Path
    stamps: tuple[Stamp, ...]
    digest: str
    """SHA-256 over the paths and contents of every file outside `symbols/`."""
    notes: tuple[str, ...]
    """Counts of what was left out."""
    broken: tuple[str, ...]
    """Stamps that cannot be read, each with its reason."""


def read_inventory(package: debian.Package) -> Inventory:
    """List the stamps that have a recorded description.

    Raises:
        CorpusError: the package holds no stamps.
    """
    folder = package.root / FOLDER
    contents = _contents(folder)
    by_stamp: dict[str, list[str]] = {}
    noises = orphans = 0
    for path in contents:
        if not path.endswith(SOUNDS):
            continue
        match = RECORDING.match(Path(path).stem)
        if not match:
            noises += 1
            continue
        name = str(Path(path).with_name(match["stamp"]))
        if _picture(name, contents):
            by_stamp.setdefault(name, []).append(path)
        else:
            orphans += 1
    pictures = {path.rsplit(".", 1)[0] for path in contents if path.endswith(PICTURES)}
    if not by_stamp:
        raise CorpusError(
            f"'{folder}' holds no stamps with recordings; expected the files of the Debian "
            f"package {PACKAGE}"
        )
    stamps, broken = [], []
    for name in sorted(by_stamp):
        try:
            stamps.append(_stamp(folder, name, sorted(by_stamp[name]), contents))
        except (OSError, ValueError) as error:
            reason = (
                getattr(error, "strerror", None)
                or "expected UTF-8 text with a caption in its first line"
            )
            broken.append(f"'{name}.txt': {reason}")
    notes = (
        f"left out: {LEFT_OUT}/ (letters, digits and signs)",
        f"left out: {len(pictures) - len(by_stamp)} pictures without a recorded description",
        f"left out: {orphans} recorded descriptions without a picture",
        f"left out: {noises} sounds that describe nothing",
    )
    digest = hashlib.sha256("".join(f"{p}\0{h}\n" for p, h in contents.items()).encode())
    return Inventory(folder, tuple(stamps), digest.hexdigest(), notes, tuple(broken))


def _stamp(folder: Path, name: str, paths: list[str], contents: dict[str, str]) -> Stamp:
    caption, *lines = (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines() or [""]
    if not words_of(spoken(caption)):
        raise ValueError("no caption")
    matches = (TRANSLATION.match(line) for line in lines)
    texts = {match["language"]: match["text"].strip() for match in matches if match}
    image = _picture(name, contents)
    assert image is not None
    recordings = []
    for path in paths:
        match = RECORDING.match(Path(path).stem)
        assert match is not None
        language = match["language"]
        text = texts.get(language, "") if language else caption.strip()
        code = (language or "en").replace("_", "-")
        recordings.append(HumanRecording(path, code, text, contents[path]))
    return Stamp(name, image, caption.strip(), tuple(recordings))


def _picture(name: str, contents: dict[str, str]) -> str | None:
    return next((name + suffix for suffix in PICTURES if name + suffix in contents), None)


def _contents(folder: Path) -> dict[str, str]:
    """SHA-256 of each file outside `symbols/`, by path, sorted."""
    paths = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in paths
        if not path.startswith(f"{LEFT_OUT}/")
    }


def warn_of_changes(package: debian.Package, inventory: Inventory) -> None:
    """Warn where the package is not the one that published figures are for."""
    if package.version != VERSION:
        logger.warning(
            "%s is version %s; figures are published for %s, and splits may differ",
            PACKAGE,
            package.version,
            VERSION,
        )
    elif inventory.digest != DIGEST:
        logger.warning(
            "%s %s has the content %s, expected %s: files were changed, and figures may differ",
            PACKAGE,
            package.version,
            inventory.digest,
            DIGEST,
        )
