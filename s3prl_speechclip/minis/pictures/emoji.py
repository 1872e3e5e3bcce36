"""Emoji as Noto Color Emoji draws them, with their names and keywords.

The names are the English annotations of Unicode's CLDR, the keywords those that emoji pickers
search. Skin tones and flags are left out: five pictures of one gesture and the flags of 258 places
teach no words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from ...errors import CorpusError
from .draft import Draft

FONT_PACKAGE = "fonts-noto-color-emoji"
NAMES_PACKAGE = "unicode-cldr-core"

FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NAMES = (
    "usr/share/unicode/cldr/common/annotations/en.xml",
    "usr/share/unicode/cldr/common/annotationsDerived/en.xml",
)

SKIN_TONES = range(0x1F3FB, 0x1F400)
REGIONAL = range(0x1F1E6, 0x1F200)  # letters that pair up to flags
TAGS = range(0xE0020, 0xE0080)  # letters of the flags of regions
FIRST = 0x203C  # of the characters that emoji fonts draw as pictures
VARIATION = "\ufe0f"  # asks for the picture rather than the sign; CLDR leaves it out


def read(roots: Mapping[str, Path]) -> list[Draft]:
    """List the emoji that Noto Color Emoji may draw."""
    font = roots[FONT_PACKAGE] / FONT
    if not font.is_file():
        raise CorpusError(f"'{FONT_PACKAGE}' has no {FONT}; fetch the package again")
    return [
        Draft(name=_file_name(text), source=font, text=text, captions=captions, tags=tags)
        for text, captions, tags in _annotated(roots[NAMES_PACKAGE])
    ]


def _annotated(root: Path) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Give each emoji with its name and its keywords."""
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for relative in NAMES:
        try:
            tree = ElementTree.parse(root / relative)
        except (OSError, ElementTree.ParseError) as error:
            raise CorpusError(
                f"cannot read {relative} of '{NAMES_PACKAGE}' ({error}); fetch the package again"
            ) from error
        for node in tree.iter("annotation"):
            text, content = node.get("cp", ""), (node.text or "").strip()
            if not _wanted(text) or not _latin(content):
                continue
            if node.get("type") == "tts":
                names[text] = content
            else:
                keywords[text] = tuple(word.strip() for word in content.split("|"))
    for text in sorted(names):
        name = _latin(names[text])
        words = (_latin(word) for word in keywords.get(text, ()))
        yield text, (name,), tuple(dict.fromkeys(w for w in words if w not in ("", name)))


def _latin(text: str) -> str:
    """Write a name in plain letters; those of other scripts, and signs, are left out."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return " ".join(re.sub(r"[^A-Za-z0-9' .!?&-]", "", plain).split())


def _wanted(text: str) -> bool:
    points = [ord(character) for character in text]
    return (
        bool(points)
        and points[0] >= FIRST
        and not any(p in SKIN_TONES or p in REGIONAL or p in TAGS for p in points)
    )


def _file_name(text: str) -> str:
    return "-".join(f"{ord(character):x}" for character in text.replace(VARIATION, ""))
