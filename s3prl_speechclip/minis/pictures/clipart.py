"""The Open Clip Art Library's drawings of things, with their titles and keywords."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ...errors import CorpusError
from .draft import Draft

PACKAGE = "openclipart-svg"
DRAWINGS = "usr/share/openclipart/svg"
FOLDERS = (
    "animals",
    "buildings",
    "computer/hardware",
    "containers",
    "decorations",
    "education",
    "electronics",
    "food",
    "geography/astronomy",
    "office",
    "people",
    "plants",
    "recreation",
    "science",
    "signs_and_symbols/weather",
    "tools",
    "transportation",
    "unsorted",
)
"""Where things are drawn; the rest is icons, flags, patterns, buttons and maps."""
LEFT_OUT = ("recreation/games/cards", "transportation/aiga-symbols", "people/stickmen")

TITLE = "{http://purl.org/dc/elements/1.1/}title"
CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
KEYWORD = re.compile(r"\{.*\}li$")
WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")
NO_TITLE = re.compile(
    r"\b(clip ?arts?|icons?|iconset|collection|theme|svg|set|symbols?|untitled|part|simple)\b",
    re.IGNORECASE,
)
NO_KEYWORD = {"hash", "unsorted", "clip art", "clipart", "externalsource", "computer", "svg"}
NOT_ENGLISH = {"architetto francesco rollandin"}  # who titled drawings in Italian
LONGEST_TITLE = 6  # words
REPEATED = 6  # a title that so many drawings share names a collection


def read(roots: Mapping[str, Path]) -> list[Draft]:
    """List the drawings that have a title or keywords.

    Raises:
        CorpusError: the package has none.
    """
    folder = roots[PACKAGE] / DRAWINGS
    drafts = []
    for part in FOLDERS:
        for path in sorted((folder / part).rglob("*.svg")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            # What cannot be parsed cannot be drawn: it is left out and counted there.
            title, keywords = _words(path)
            if not name.startswith(LEFT_OUT):
                drafts.append(Draft(name=name, source=path, captions=title, tags=keywords))
    if not drafts:
        raise CorpusError(f"'{PACKAGE}' has no drawings under {DRAWINGS}; fetch the package again")
    shared = Counter(caption.casefold() for draft in drafts for caption in draft.captions)
    named = []
    for draft in drafts:
        titles = tuple(c for c in draft.captions if shared[c.casefold()] < REPEATED)
        if titles or draft.tags:
            named.append(replace(draft, captions=titles))
    return named


def _words(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a drawing's title and its keywords without the names of people."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError):
        return (path.stem,), ()
    authors = {text.casefold() for node in tree.iter(CREATOR) for text in _texts(node)}
    title = next((text for node in tree.iter(TITLE) for text in _texts(node)), "")
    usable = (
        WORDS.fullmatch(title)
        and len(title.split()) <= LONGEST_TITLE
        and not NO_TITLE.search(title)
        and title.casefold() not in authors
        and not authors & NOT_ENGLISH
    )
    keywords = []
    for node in tree.iter():
        if isinstance(node.tag, str) and KEYWORD.match(node.tag):
            word = " ".join((node.text or "").replace("_", " ").casefold().split())
            if WORDS.fullmatch(word) and word not in NO_KEYWORD and word not in authors:
                keywords.append(word)
    return ((title,) if usable else ()), tuple(dict.fromkeys(keywords))


def _texts(node: ElementTree.Element) -> Iterator[str]:
    for text in node.itertext():
        if text.strip():
            yield " ".join(text.split())
