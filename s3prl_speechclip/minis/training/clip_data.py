"""The examples of the mini CLIP: pictures with words, ImageNet's classes, and batches of both."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo
from torch import Tensor
from tqdm import tqdm

from ...benchmarks.formulas.keyword_scores import stop_words
from ...data.cache import cache_home, is_prepared, made_once
from ...data.images import open_image
from ...data.manifest import Manifest
from ...encoders.clip import ClipEncoder, image_trunk
from ...errors import CorpusError
from ...hashing import state_hash
from ..making import draw, groups
from ..pictures import SOURCES, copies, fingerprints, read_drafts
from ..sets.stamps import UNSEEN

logger = logging.getLogger(__name__)

PREPARED = 1  # counts up whenever the prepared pictures change
LISTING = "pictures.json"
BATCH = 32  # images
PART = 512  # pictures whose features are kept in one file, so that little is lost when killed
FEATURES = "features.safetensors"
LONGEST = 9  # words of a text
SPELLED = 7  # letters of the longest word that is spelled in training


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture and the words that go with it."""

    source: str
    """`stamps`, or a key of `pictures.SOURCES`."""
    image: Path
    captions: tuple[str, ...]
    """What it shows, each whole by itself; may be empty where there are tags."""
    tags: tuple[str, ...] = ()
    """Words that have to do with it."""


@dataclass(frozen=True)
class ImageClass:
    """A class of ImageNet."""

    names: tuple[str, ...]
    """Synonyms."""
    definition: str
    """WordNet's."""


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


class Batch(NamedTuple):
    """Pictures, classes and texts of a step."""

    rows: Tensor
    """(B,) pictures."""
    classes: Tensor
    """(C,) ImageNet classes."""
    texts: tuple[str, ...]
    """Texts of the pictures, then of the classes."""
    pair_ids: Tensor
    """(B + C,) equal where two share a name."""


def load_pictures(
    archive: Path | None = None, root: Path | None = None
) -> tuple[list[Example], list[str]]:
    """Load the pictures in a fixed order; fetch and prepare them at the first use, in minutes.

    Args:
        archive: a package as a .deb file, or a folder of .deb files, for machines without apt-get.
        root: folder of the prepared pictures (default: one in the cache).

    Returns:
        The pictures, and notes on what was left out.

    Raises:
        CorpusError: a package cannot be fetched or is not as expected, the disk is full.
    """
    root = root or cache_home() / "pictures" / f"v{PREPARED}"
    if not is_prepared(root, LISTING):
        made_once(root, partial(_prepare, archive))
    path = root / LISTING
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        examples = [
            Example(
                source=row["source"],
                image=root / row["image"],
                captions=tuple(row["captions"]),
                tags=tuple(row["tags"]),
            )
            for row in about["pictures"]
        ]
        return examples, list(about["notes"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(
            f"'{path}' is no list of pictures ({error}); delete its folder"
        ) from error


def _prepare(archive: Path | None, folder: Path) -> None:
    rows, notes = [], []
    versions: dict[str, str] = {}
    for source in SOURCES:
        drafts, packages = read_drafts([source], archive)
        versions |= packages
        made = draw([d.drawing() for d in drafts], folder, f"preparing pictures of {source}")
        kept = [d for d, m in zip(drafts, made, strict=True) if not m.fault and not m.blank]
        faults = [m.fault for m in made if m.fault]
        if not kept:
            raise CorpusError(
                f"no picture of '{' and '.join(packages)}' can be drawn, the first: "
                f"{faults[0] if faults else 'there is none'}; fetch the packages again"
            )
        described = ", ".join(f"{name} {version}" for name, version in packages.items())
        notes.append(
            f"{source} ({described}): {len(kept)} pictures; left out {len(faults)} that cannot be "
            f"drawn and {sum(m.blank for m in made)} that are blank"
        )
        for fault in faults:
            logger.info("left out: %s", fault)
        rows += [
            {
                "source": source,
                "name": draft.name,
                "image": draft.drawing().path,
                "captions": draft.captions,
                "tags": draft.tags,
            }
            for draft in kept
        ]
    about = {"packages": dict(sorted(versions.items())), "notes": notes, "pictures": rows}
    (folder / LISTING).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def training_examples(
    manifest: Manifest, pictures: Sequence[Example]
) -> tuple[list[Example], list[str]]:
    """Return the corpus' training pictures and all that resemble no held-out one, and two notes."""
    captions: dict[str, dict[str, None]] = {}
    for utterance in manifest.split(manifest.train_split):
        captions.setdefault(utterance.image, {})[utterance.caption] = None
    examples = [
        Example(
            source="stamps",
            image=manifest.path(image),
            captions=tuple(captions[image]),
            tags=tuple(part.replace("_", " ") for part in Path(image).parts[1:-1]),
        )
        for image in sorted(captions)
    ]
    note = f"stamps: {len(examples)} pictures of the split '{manifest.train_split}'"
    held_out = sorted({u.image for u in manifest.utterances if u.split in UNSEEN})
    originals = fingerprints([manifest.path(image) for image in held_out])
    found = copies(fingerprints([picture.image for picture in pictures]), originals)
    examples += [picture for picture, copy in zip(pictures, found, strict=True) if not copy]
    left_out = (
        f"left out: {int(found.sum())} pictures that look like one of the {len(held_out)} stamps "
        f"of {' and '.join(UNSEEN)}"
    )
    return examples, [note, left_out]


def image_classes() -> list[ImageClass]:
    """Return ImageNet's 1,000 classes, in its order, as timm describes them."""
    info = ImageNetInfo()
    classes = []
    for index in range(info.num_classes()):
        names, _, definition = info.index_to_description(index, detailed=True).partition(": ")
        classes.append(ImageClass(tuple(names.split(", ")), definition))
    return classes


class Batches:
    """Batches of pictures and classes, each a function of seed and step alone.

    Args:
        examples: N pictures.
        classes: ImageNet's classes.
        named: the classifier's logits of each picture, (N, 1000).
        config: texts and sizes.
        seed: seed of all draws, not negative.
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
        rows = range(len(examples))
        self.own = [row for row in rows if examples[row].source == "stamps"]
        self.others = [row for row in rows if examples[row].source != "stamps"]
        # A picture without captions goes by what it is tagged with.
        keys = [example.captions or (" ".join(example.tags),) for example in examples]
        self.groups = name_groups([*keys, *(c.names for c in classes)])

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
        pair_ids = self.groups[places]
        return Batch(torch.tensor(rows), torch.tensor(classes), tuple(texts), pair_ids)


def picture_text(example: Example, draw: random.Random, config: BatchConfig) -> str:
    """Draw a text of a picture: a caption, a caption among tags, or tags."""
    caption = draw.choice(example.captions) if example.captions else ""
    if caption and (draw.random() < config.whole or not example.tags):
        return _varied(caption, draw, config)
    tags = draw.sample(example.tags, min(len(example.tags), draw.randint(1, 3)))
    if caption and (len(tags) < 2 or draw.random() < 0.5):
        tags.insert(draw.randrange(len(tags) + 1), " ".join(_content(caption)))
    return _varied(" ".join(tags), draw, config)


def class_text(image_class: ImageClass, draw: random.Random, config: BatchConfig) -> str:
    """Draw a text of a class: a name, names, or a name and words of its definition."""
    names = draw.sample(image_class.names, min(len(image_class.names), draw.randint(1, 2)))
    if draw.random() < 0.25:
        words = _content(image_class.definition)
        names += draw.sample(words, min(len(words), 4))
    return _varied(" ".join(names), draw, config)


def _content(text: str) -> list[str]:
    """Return the words that are no stop words, in order."""
    words = re.findall(r"[\w'’-]+", text)
    kept = [word for word in words if word.casefold() not in stop_words()]
    return kept or words


def _varied(text: str, draw: random.Random, config: BatchConfig) -> str:
    """Vary a text: with or without article and punctuation, some words spelled."""
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


def trunk_features(encoder: ClipEncoder, examples: Sequence[Example]) -> Tensor:
    """Return the frozen trunk's features of N pictures, (N, F) float32, kept in the cache."""
    trunk = state_hash(image_trunk(encoder.clip).state_dict()) + str(encoder.preprocess())
    parts = []
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        digest = hashlib.sha256(f"{trunk}\n".encode())
        for example in part:
            digest.update(f"{example.image} {example.image.stat().st_size}\n".encode())
        folder = cache_home() / "mini_clip" / digest.hexdigest()[:16]
        made_once(folder, partial(_compute, encoder, part, f"{start} to {start + len(part)}"))
        parts.append(load_file(folder / FEATURES)["features"].float())
    return torch.cat(parts)


@torch.no_grad()
def _compute(encoder: ClipEncoder, examples: Sequence[Example], which: str, folder: Path) -> None:
    transform = encoder.preprocess()
    image_trunk(encoder.clip).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = []
    name = f"features of pictures {which}"
    for start in tqdm(range(0, len(examples), BATCH), name, unit="batch", leave=False):
        pixels = [transform(open_image(e.image)) for e in examples[start : start + BATCH]]
        batch = torch.stack(pixels).to(memory_format=torch.channels_last)
        rows.append(encoder.image_features(batch).half())
    save_file({"features": torch.cat(rows)}, folder / FEATURES)


def name_groups(names: Sequence[Sequence[str]]) -> Tensor:
    """Number things, (N,), so that those that share a name, directly or not, share one."""
    return torch.tensor(groups([map(_plain, own) for own in names]))


def _plain(text: str) -> str:
    """Return a caption without case, punctuation and article."""
    words = re.sub(r"[^\w\s]", " ", text.casefold()).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)
