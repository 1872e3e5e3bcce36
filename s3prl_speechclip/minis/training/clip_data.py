"""Training data of the mini CLIP: pictures with words, ImageNet's classes, batches of both."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from timm.data import ImageNetInfo
from torch import Tensor

from ...benchmarks.formulas.keyword_scores import stop_words
from ...data.cache import cache_home, made_once
from ...data.manifest import Manifest
from ..making import draw, groups
from ..pictures import SOURCES, Draft, copies, fingerprints, read_drafts
from ..sets.stamps import UNSEEN

VERSION = 3  # counts up whenever the prepared pictures change
STAMPS = "stamps"
STAMPS_SHARE = 0.25  # of a step's pictures
WHOLE = 0.4  # share of texts that are a caption alone; others have tags beside or instead
SPELLED = 0.03  # share of words spelled in letters, so that letters mean something
LONGEST = 9  # words of a text
LONGEST_SPELLED = 7  # letters


class Batch(NamedTuple):
    """Pictures, classes and texts of a step."""

    rows: Tensor
    """(B,) pictures."""
    classes: Tensor
    """(C,) ImageNet classes."""
    texts: Sequence[str]
    """Texts of the pictures, then of the classes."""
    pair_ids: Tensor
    """(B + C,) equal where two share a name."""


def load_pictures(archive: Path | None = None) -> tuple[list[Draft], list[str]]:
    """Load the pictures of packages; fetch and draw them at the first use, in minutes.

    Returns:
        The pictures in a fixed order, `file` being the drawn one, and notes on them.
    """
    drafts, packages = read_drafts(list(SOURCES), archive)
    versions = sorted(packages.items())
    key = hashlib.sha256(f"{VERSION} {versions}".encode()).hexdigest()[:16]
    folder = made_once(cache_home() / "pictures" / key, partial(_draw, drafts))
    every = [replace(draft, file=folder / draft.drawing().path) for draft in drafts]
    pictures = [picture for picture in every if picture.file.is_file()]
    notes = [f"{name} {version}" for name, version in versions]
    for source, about in SOURCES.items():
        kept, planned = (sum(d.source == source for d in part) for part in (pictures, every))
        notes.append(
            f"{source} ({about.licence}): {kept} pictures; left out {planned - kept} that cannot "
            "be drawn or are blank"
        )
    return pictures, notes


def _draw(drafts: Sequence[Draft], folder: Path) -> None:
    drawings = [draft.drawing() for draft in drafts]
    for drawing, made in zip(drawings, draw(drawings, folder), strict=True):
        if made.blank:
            (folder / drawing.path).unlink()


def training_pictures(
    manifest: Manifest, pictures: Sequence[Draft]
) -> tuple[list[Draft], list[str]]:
    """Return the corpus' training pictures and all that resemble no held-out one, and notes."""
    captions: dict[str, dict[str, None]] = {}
    for utterance in manifest.split(manifest.train_split):
        captions.setdefault(utterance.image, {})[utterance.caption] = None
    chosen = [
        Draft(
            source=STAMPS,
            name=image,
            file=manifest.path(image),
            captions=tuple(captions[image]),
            tags=tuple(part.replace("_", " ") for part in Path(image).parts[1:-1]),
        )
        for image in sorted(captions)
    ]
    held_out = sorted({u.image for u in manifest.utterances if u.split in UNSEEN})
    originals = fingerprints([manifest.path(image) for image in held_out])
    found = copies(fingerprints([picture.file for picture in pictures]), originals)
    notes = [
        f"stamps (GPL-2): {len(chosen)} pictures of the split '{manifest.train_split}'",
        f"left out: {int(found.sum())} pictures that look like one of the {len(held_out)} stamps "
        f"of {' and '.join(UNSEEN)}",
    ]
    chosen += [picture for picture, copy in zip(pictures, found, strict=True) if not copy]
    return chosen, notes


def image_classes() -> list[Draft]:
    """Return ImageNet's 1,000 classes, in its order, as timm describes them.

    Captions are a class' synonyms, tags the content words of WordNet's definition.
    """
    info = ImageNetInfo()
    classes = []
    for index in range(info.num_classes()):
        names, _, definition = info.index_to_description(index, detailed=True).partition(": ")
        tags = tuple(dict.fromkeys(_content(definition)))
        classes.append(
            Draft(name=str(index), file=Path(), captions=tuple(names.split(", ")), tags=tags)
        )
    return classes


class Batches:
    """Batches of pictures and classes, each a function of seed and step alone.

    Args:
        pictures: N pictures.
        classes: ImageNet's classes.
        named: the classifier's logits of each picture, (N, 1000).
        size: pictures and classes of a step.
        seed: seed of all draws.
    """

    def __init__(
        self,
        pictures: Sequence[Draft],
        classes: Sequence[Draft],
        named: Tensor,
        size: tuple[int, int],
        seed: int = 0,
    ) -> None:
        self.described = [*pictures, *classes]
        self.size = size
        self.seed = seed
        self.likely = named.softmax(-1).topk(3).indices.tolist()
        rows = range(len(pictures))
        self.own = [row for row in rows if pictures[row].source == STAMPS]
        self.others = [row for row in rows if pictures[row].source != STAMPS]
        # A picture without captions goes by what it is tagged with.
        self.groups = name_groups([d.captions or (" ".join(d.tags),) for d in self.described])

    def batch(self, step: int) -> Batch:
        """Draw a step's pictures, classes and texts."""
        draw = Random(f"{self.seed} {step}")
        count, class_count = self.size
        own = min(round(STAMPS_SHARE * count), len(self.own))
        rows = draw.sample(self.own, own)
        rows += draw.sample(self.others, min(count - own, len(self.others)))
        # Half of the classes may be what the pictures show, the others what they do not.
        shown = [draw.choice(self.likely[row]) for row in rows]
        classes = list(dict.fromkeys(shown))[: class_count // 2]
        first = len(self.likely)
        rest = [c for c in range(len(self.described) - first) if c not in set(classes)]
        classes += draw.sample(rest, class_count - len(classes))
        places = [*rows, *(first + c for c in classes)]
        texts = tuple(drawn_text(self.described[place], draw) for place in places)
        return Batch(torch.tensor(rows), torch.tensor(classes), texts, self.groups[places])


def name_groups(names: Sequence[Sequence[str]]) -> Tensor:
    """Number things, (N,), so that those that share a name, directly or not, share one."""
    return torch.tensor(groups([map(_plain, own) for own in names]))


def drawn_text(about: Draft, draw: Random) -> str:
    """Draw a text of a picture or class: a caption, a caption among tags, or tags alone.

    Some are without stop words or with an article, some words are spelled.
    """
    text = draw.choice(about.captions) if about.captions else ""
    if about.tags and (not text or draw.random() > WHOLE):
        words = draw.sample(about.tags, min(len(about.tags), draw.randint(1, 3)))
        words.insert(draw.randint(0, len(words)), " ".join(_content(text)))
        text = " ".join(filter(None, words))
    kind = draw.random()
    if kind < 0.4:
        text = " ".join(_content(text))
    elif kind < 0.5 and not re.match(r"(an?|the)\b", text, re.IGNORECASE):
        text = f"a {text}"
    return " ".join(
        " ".join(word) if len(word) <= LONGEST_SPELLED and draw.random() < SPELLED else word
        for word in text.split()[:LONGEST]
    )


def _content(text: str) -> list[str]:
    """Return the words that are no stop words, in order."""
    words = re.findall(r"[\w'’-]+", text)
    return [word for word in words if word.casefold() not in stop_words()] or words


def _plain(text: str) -> str:
    """Return a caption without case, punctuation and article."""
    words = re.sub(r"[^\w\s]", " ", text.casefold()).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)
