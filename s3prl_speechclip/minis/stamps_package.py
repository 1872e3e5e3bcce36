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


@dataclass(frozen=True)
class Stamp:
    """A picture with its English caption and its recordings."""

    name: str
    """Path without suffix."""
    image: str
    caption: str
    recordings: tuple[HumanRecording, ...]


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
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    contents = {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in paths
        if not path.startswith(f"{LEFT_OUT}/")
    }
    # A PNG replaces an SVG of the same name.
    pictures = {Path(p).with_suffix("").as_posix(): p for p in contents if p.endswith(".svg")}
    pictures |= {Path(p).with_suffix("").as_posix(): p for p in contents if p.endswith(".png")}
    by_stamp: dict[str, list[tuple[str, str]]] = {}
    noises = orphans = 0
    for path in contents:
        if path.endswith(SOUNDS):
            match = RECORDING.match(Path(path).stem)
            name = Path(path).with_name(match["stamp"]).as_posix() if match else ""
            if not match:
                noises += 1
            elif name in pictures:
                by_stamp.setdefault(name, []).append((path, match["language"] or ""))
            else:
                orphans += 1
    if not by_stamp:
        raise CorpusError(
            f"'{folder}' holds no stamps with recordings; expected the files of the Debian "
            f"package {PACKAGE}"
        )
    stamps, broken = [], []
    for name, own in sorted(by_stamp.items()):
        try:
            caption, texts = _captions(folder / f"{name}.txt")
        except OSError as error:
            broken.append(f"'{name}.txt': {error.strerror}")
        except ValueError:
            broken.append(f"'{name}.txt': expected UTF-8 text with a caption in its first line")
        else:
            recordings = (
                HumanRecording(
                    path,
                    language.replace("_", "-") or "en",
                    texts.get(language, "") if language else caption,
                    contents[path],
                )
                for path, language in own
            )
            stamps.append(Stamp(name, pictures[name], caption, tuple(recordings)))
    notes = (
        f"left out: {LEFT_OUT}/ (letters, digits and signs)",
        f"left out: {len(pictures) - len(by_stamp)} pictures without a recorded description",
        f"left out: {orphans} recorded descriptions without a picture",
        f"left out: {noises} sounds that describe nothing",
    )
    digest = hashlib.sha256("".join(f"{p}\0{h}\n" for p, h in contents.items()).encode())
    return Inventory(folder, tuple(stamps), digest.hexdigest(), notes, tuple(broken))


def _captions(path: Path) -> tuple[str, dict[str, str]]:
    """Read a stamp's English caption, and the others by language."""
    caption, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if not words_of(spoken(caption)):
        raise ValueError("no caption")
    matches = (TRANSLATION.match(line) for line in lines)
    return caption.strip(), {m["language"]: m["text"].strip() for m in matches if m}


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
