"""What a step of the mini CLIP reads: pictures, ImageNet's classes, and texts of both."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...benchmarks.scores.keyword_scores import stop_words
from .clip_data import Example, ImageClass, groups

LONGEST = 9  # words of a text
SPELLED = 7  # letters of the longest word that is spelled in training


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    batch_size: int = 192
    """Pictures of a step."""
    classes: int = 64
    """ImageNet classes of a step: named for the pictures, and shown as their prototypes."""
    corpus_share: float = 0.25
    """Share of a step's pictures that come from the default corpus."""
    whole: float = 0.4
    """Share of texts that are a caption alone; others have tags beside or instead."""
    spelled: float = 0.03
    """Share of words that are spelled in letters, so that letters mean something."""


@dataclass(frozen=True)
class Batch:
    """What a step reads."""

    rows: Tensor
    """(B,) pictures."""
    classes: Tensor
    """(C,) ImageNet classes."""
    texts: tuple[str, ...]
    """Of the pictures, then of the classes."""
    pair_ids: Tensor
    """(B + C,); what shares a name shares an id."""


class Batches:
    """Batches of pictures and classes, each a function of seed and step alone.

    Args:
        examples: N pictures.
        classes: ImageNet's.
        named: the classifier's logits of each picture, (N, 1000).
        config: of texts and sizes.
        seed: not negative.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[ImageClass],
        named: Tensor,
        config: BatchConfig,
        seed: int = 0,
    ) -> None:
        self.examples = examples
        self.classes = classes
        self.config = config
        self.seed = seed
        self.likely = named.softmax(-1).topk(3).indices
        own = [row for row, example in enumerate(examples) if example.source == "stamps"]
        others = [row for row, example in enumerate(examples) if example.source != "stamps"]
        self.own, self.others = own, others
        # A picture without captions goes by what it is tagged with.
        keys = [example.captions or (" ".join(example.tags),) for example in examples]
        self.groups = groups([*keys, *(c.names for c in classes)])

    def batch(self, step: int) -> Batch:
        """Draw a step's pictures, classes and texts."""
        draw = random.Random(f"{self.seed} {step}")
        count = self.config.batch_size
        own = min(round(self.config.corpus_share * count), len(self.own))
        rows = draw.sample(self.own, own)
        rows += draw.sample(self.others, min(count - own, len(self.others)))
        # Half of the classes may be what the pictures show, the others what they do not.
        chosen = [int(draw.choice(self.likely[row].tolist())) for row in rows]
        classes = list(dict.fromkeys(chosen))[: self.config.classes // 2]
        rest = [c for c in range(len(self.classes)) if c not in set(classes)]
        classes += draw.sample(rest, self.config.classes - len(classes))
        texts = [picture_text(self.examples[row], draw, self.config) for row in rows]
        texts += [class_text(self.classes[c], draw, self.config) for c in classes]
        places = [*rows, *(len(self.examples) + c for c in classes)]
        return Batch(
            rows=torch.tensor(rows),
            classes=torch.tensor(classes),
            texts=tuple(texts),
            pair_ids=self.groups[places],
        )


def picture_text(example: Example, draw: random.Random, config: BatchConfig) -> str:
    """Write something of a picture: a caption, a caption among tags, or tags."""
    caption = draw.choice(example.captions) if example.captions else ""
    if caption and (draw.random() < config.whole or not example.tags):
        return _varied(caption, draw, config)
    tags = draw.sample(example.tags, min(len(example.tags), draw.randint(1, 3)))
    if caption and (len(tags) < 2 or draw.random() < 0.5):
        tags.insert(draw.randrange(len(tags) + 1), " ".join(_content(caption)))
    return _varied(" ".join(tags), draw, config)


def class_text(image_class: ImageClass, draw: random.Random, config: BatchConfig) -> str:
    """Write something of a class: a name, names, or a name and what it means."""
    names = draw.sample(image_class.names, min(len(image_class.names), draw.randint(1, 2)))
    if draw.random() < 0.25:
        words = _content(image_class.definition)
        names += draw.sample(words, min(len(words), 4))
    return _varied(" ".join(names), draw, config)


def _content(text: str) -> list[str]:
    """Give the words that mean something, in order."""
    words = re.findall(r"[\w'’-]+", text)
    kept = [word for word in words if word.casefold() not in stop_words()]
    return kept or words


def _varied(text: str, draw: random.Random, config: BatchConfig) -> str:
    """Write a text with or without article and punctuation, some words spelled."""
    kind = draw.random()
    if kind < 0.3:
        text = " ".join(_content(text))
    elif kind < 0.5:
        text = re.sub(r"[^\w\s'’-]", "", text)
    elif kind < 0.6 and not re.match(r"(an?|the)\b", text, re.IGNORECASE):
        text = f"a {text}"
    words = text.split()[:LONGEST]
    return " ".join(
        " ".join(word) if len(word) <= SPELLED and draw.random() < config.spelled else word
        for word in words
    )
