"""Pictures with words in Debian packages: emoji, word cards and clip art; and copies among them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from ..config import read_yaml
from ..data.images import open_image
from . import debian
from .debian import Package
from .making import Drawing

EMOJI_FONT, EMOJI_NAMES = "fonts-noto-color-emoji", "unicode-cldr-core"
FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NAMES = (
    "usr/share/unicode/cldr/common/annotations/en.xml",
    "usr/share/unicode/cldr/common/annotationsDerived/en.xml",
)
LEFT = (
    range(0x1F3FB, 0x1F400),  # skin tones
    range(0x1F1E6, 0x1F200),  # letters that pair up to flags
    range(0xE0020, 0xE0080),  # letters of the flags of regions
)
FIRST = 0x203C  # of the characters that emoji fonts draw as pictures
VARIATION = "\ufe0f"  # asks for the picture rather than the sign; CLDR leaves it out

WORD_CARDS = "pysiogame"
CARDS = "usr/share/games/pysiogame/res/images/art4apps"

CLIP_ART = "openclipart-svg"
DRAWINGS = "usr/share/openclipart/svg"
_TABLE = read_yaml(Path(__file__).with_name("pictures.yaml"))
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
KEYWORD = re.compile(r"\{.*\}li$")
WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
NO_TITLE = re.compile(rf"\b({'|'.join(_TABLE['no_title'])})\b", re.IGNORECASE)
LONGEST_TITLE = 6  # words
REPEATED = 6  # a title that so many drawings share names a collection

SIDE = 16  # pixels of a fingerprint
PAPER = 12  # of 255: what differs less from white is paper
SAME = 0.1  # of the ink of two pictures; what copies differ by at most


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A picture in a package."""

    source: str = ""
    """A key of `SOURCES`."""
    name: str
    """Path without suffix, unique in its source."""
    file: Path
    """The picture, or the font that draws it."""
    text: str = ""
    """Characters that the font draws."""
    captions: tuple[str, ...]
    """Descriptions of what it shows, each whole by itself."""
    tags: tuple[str, ...] = ()
    """Words that have to do with it."""

    def drawing(self, folder: str = "") -> Drawing:
        """Return where, in a folder of the set, and how the picture is drawn."""
        return Drawing(f"{folder}{self.source}/{self.name}.png", self.file, self.text)


class Source(NamedTuple):
    """Packages that hold pictures."""

    packages: tuple[str, ...]
    licence: str
    read: Callable[[Mapping[str, Package]], list[Draft]]
    """List the pictures, given the packages by name."""


def read_drafts(sources: Sequence[str], archive: Path | None) -> tuple[list[Draft], dict[str, str]]:
    """List the pictures of some of `SOURCES`, in a fixed order, and their packages' versions.

    Raises:
        CorpusError: a package cannot be fetched or is not as expected.
    """
    names = sorted({name for source in sources for name in SOURCES[source].packages})
    packages = dict(zip(names, debian.packages(names, archive), strict=True))
    drafts = [replace(draft, source=s) for s in sources for draft in SOURCES[s].read(packages)]
    return drafts, {name: package.version for name, package in packages.items()}


def read_emoji(packages: Mapping[str, Package]) -> list[Draft]:
    """List the emoji that Noto Color Emoji may draw.

    The names are the English annotations of Unicode's CLDR, the keywords those that emoji pickers
    search. Skin tones and flags are left out: five pictures of one gesture and the flags of 258
    places teach no words.
    """
    font = packages[EMOJI_FONT].find(FONT)
    names: dict[str, str] = {}
    keywords: dict[str, list[str]] = {}
    for path in NAMES:
        for node in ElementTree.parse(packages[EMOJI_NAMES].find(path)).iter("annotation"):
            text, content = node.get("cp", ""), (node.text or "").strip()
            if not _is_picture(text) or not _latin(content):
                continue
            if node.get("type") == "tts":
                names[text] = _latin(content)
            else:
                keywords[text] = [_latin(word) for word in content.split("|")]
    return [
        Draft(
            name="-".join(f"{ord(character):x}" for character in text.replace(VARIATION, "")),
            file=font,
            text=text,
            captions=(name,),
            tags=tuple(dict.fromkeys(w for w in keywords.get(text, ()) if w not in ("", name))),
        )
        for text, name in sorted(names.items())
    ]


def read_word_cards(packages: Mapping[str, Package]) -> list[Draft]:
    """List the word cards of pysiogame (eduActiv8): photographs and drawings, named by words."""
    folder = packages[WORD_CARDS].find(CARDS)
    return [
        Draft(
            name=path.relative_to(folder).with_suffix("").as_posix(),
            file=path,
            captions=(path.stem.replace("_", " "),),
            tags=tuple(_TABLE["kinds"].get(path.parent.name, ())),
        )
        for path in sorted(folder.glob("*/*.jpg"))
    ]


def read_clip_art(packages: Mapping[str, Package]) -> list[Draft]:
    """List the drawings of the Open Clip Art Library that have a title or keywords."""
    folder = packages[CLIP_ART].find(DRAWINGS)
    drafts = []
    for path in (p for part in _TABLE["folders"] for p in sorted((folder / part).rglob("*.svg"))):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not name.startswith(tuple(_TABLE["left_out"])):
            captions, tags = _title_and_keywords(path)
            drafts.append(Draft(name=name, file=path, captions=captions, tags=tags))
    shared = Counter(caption.casefold() for draft in drafts for caption in draft.captions)
    titled = (
        replace(d, captions=tuple(c for c in d.captions if shared[c.casefold()] < REPEATED))
        for d in drafts
    )
    return [draft for draft in titled if draft.captions or draft.tags]


SOURCES: Mapping[str, Source] = {
    "emoji": Source(
        (EMOJI_FONT, EMOJI_NAMES),
        "drawings SIL Open Font License 1.1, names Unicode-DFS-2016",
        read_emoji,
    ),
    "word_cards": Source((WORD_CARDS,), "public domain", read_word_cards),
    "clipart": Source((CLIP_ART,), "public domain", read_clip_art),
}


def fingerprints(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Compute fingerprints of image files, (N, 768) in [0, 1]."""
    return np.stack([fingerprint(open_image(path)) for path in paths])


def fingerprint(image: Image.Image) -> NDArray[np.float32]:
    """Shrink what an RGB picture shows, without the white around it, to a small square, (768,)."""
    difference = ImageChops.difference(image, Image.new("RGB", image.size, "white"))
    inked = difference.convert("L").point(lambda value: 255 * (value > PAPER))
    shown = image.crop(inked.getbbox() or (0, 0, *image.size))
    side = max(shown.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(shown, ((side - shown.width) // 2, (side - shown.height) // 2))
    small = square.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / np.float32(255)


def copies(prints: NDArray[np.float32], originals: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the pictures that are copies of others, in another size or format.

    Two pictures are compared by the ink that they do not share, as a part of all the ink of both,
    so that a thin drawing is not like every other thin drawing, nor a blank one like any.

    Args:
        prints: fingerprints, (N, 768).
        originals: fingerprints of what they may be copies of, (M, 768).

    Returns:
        (N,) bool.
    """
    found = np.zeros(len(prints), np.bool_)
    ink = (1 - prints).sum(1)
    for original in originals:
        both = ink + (1 - original).sum()
        found |= np.abs(prints - original).sum(1) < SAME * both
    return found


def _is_picture(text: str) -> bool:
    points = [ord(character) for character in text]
    return points[:1] >= [FIRST] and not any(p in part for p in points for part in LEFT)


def _latin(text: str) -> str:
    """Return a name in plain letters; those of other scripts, and signs, are left out."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return " ".join(re.sub(r"[^A-Za-z0-9' .!?&-]", "", plain).split())


def _title_and_keywords(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a drawing's title and its keywords without the names of people."""
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError:
        # What cannot be parsed cannot be drawn: it is left out and counted there.
        return (path.stem,), ()
    authors = {text.casefold() for text in _texts(tree.getroot(), "creator")}
    title = next(iter(_texts(tree.getroot(), "title")), "")
    usable = (
        WORDS.fullmatch(title)
        and len(title.split()) <= LONGEST_TITLE
        and not NO_TITLE.search(title)
        and title.casefold() not in authors
        and authors.isdisjoint(_TABLE["not_english"])
    )
    found = (n for n in tree.iter() if isinstance(n.tag, str) and KEYWORD.match(n.tag))
    words = (" ".join((n.text or "").replace("_", " ").casefold().split()) for n in found)
    refused = {*_TABLE["no_keyword"], *authors}
    keywords = dict.fromkeys(w for w in words if WORDS.fullmatch(w) and w not in refused)
    return ((title,) if usable else ()), tuple(keywords)


def _texts(root: ElementTree.Element, name: str) -> list[str]:
    texts = (text for node in root.iter(DUBLIN_CORE + name) for text in node.itertext())
    return [" ".join(text.split()) for text in texts if text.strip()]
