"""What the mini CLIP learns from: pictures with words, and what ImageNet's classifier knows."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo
from torch import Tensor
from tqdm import tqdm

from ...data.cache import cache_home, made_once
from ...data.images import open_image
from ...data.manifest import Manifest
from ...encoders.clip import ClipEncoder, image_trunk
from ...hashing import state_hash
from ..pictures import PictureSet
from ..pictures.fingerprint import copies, fingerprint

logger = logging.getLogger(__name__)

BATCH = 32  # images
PART = 512  # pictures whose features are kept in one file, so that little is lost when killed
HELD_OUT = ("dev_image", "test_image")
FEATURES = "features.safetensors"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture and the words that go with it."""

    source: str
    """`stamps`, or a key of `data.pictures.SOURCES`."""
    image: Path
    captions: tuple[str, ...]
    """What it shows, each whole by itself; may be empty where there are tags."""
    tags: tuple[str, ...]
    """Words that have to do with it."""


@dataclass(frozen=True)
class ImageClass:
    """A class of ImageNet."""

    names: tuple[str, ...]
    """Synonyms."""
    definition: str
    """WordNet's."""


def training_examples(manifest: Manifest, pictures: PictureSet) -> tuple[list[Example], list[str]]:
    """Gather the pictures of the corpus' training split and all others.

    Pictures that look like one of a held-out split are left out.

    Args:
        manifest: the default corpus.
        pictures: from elsewhere.

    Returns:
        The examples, and notes on what they are and what was left out.
    """
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
    notes = [f"stamps: {len(examples)} pictures of the split '{manifest.train_split}'"]
    held_out = sorted({u.image for u in manifest.utterances if u.split in HELD_OUT})
    originals = _fingerprints([manifest.path(image) for image in held_out])
    found = copies(_fingerprints([pictures.root / p.image for p in pictures.pictures]), originals)
    examples += [
        Example(
            source=picture.source,
            image=pictures.root / picture.image,
            captions=picture.captions,
            tags=picture.tags,
        )
        for picture, copy in zip(pictures.pictures, found, strict=True)
        if not copy
    ]
    notes += pictures.notes
    notes.append(
        f"left out: {int(found.sum())} pictures that look like one of the {len(held_out)} stamps "
        f"of {' and '.join(HELD_OUT)}"
    )
    return examples, notes


def image_classes() -> list[ImageClass]:
    """Give ImageNet's 1,000 classes, in its order, as timm describes them."""
    info = ImageNetInfo()
    classes = []
    for index in range(info.num_classes()):
        names, _, definition = info.index_to_description(index, detailed=True).partition(": ")
        classes.append(ImageClass(tuple(names.split(", ")), definition))
    return classes


def groups(keys: Sequence[Sequence[str]]) -> Tensor:
    """Number things so that those with a key in common, directly or through others, share one.

    Args:
        keys: of each thing; compared without case and punctuation.

    Returns:
        (N,) int64.
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(row), root(first.setdefault(_plain(key), row))))
            parent[other] = one
    return torch.tensor([root(row) for row in range(len(keys))])


def trunk_features(encoder: ClipEncoder, examples: Sequence[Example]) -> Tensor:
    """Run the frozen trunk over pictures, or take what it gave from the cache.

    Args:
        encoder: whose trunk is run, on the CPU.
        examples: N pictures.

    Returns:
        (N, F) float32.
    """
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
    for start in tqdm(
        range(0, len(examples), BATCH),
        desc=f"features of pictures {which}",
        unit="batch",
        leave=False,
    ):
        pixels = [transform(open_image(e.image)) for e in examples[start : start + BATCH]]
        batch = torch.stack(pixels).to(memory_format=torch.channels_last)
        rows.append(encoder.image_features(batch).half())
    save_file({"features": torch.cat(rows)}, folder / FEATURES)


def _fingerprints(paths: Sequence[Path]) -> np.ndarray:
    return np.stack([fingerprint(open_image(path)) for path in paths])


def _plain(text: str) -> str:
    """Write a caption without case, punctuation and article."""
    words = re.sub(r"[^\w\s]", " ", text.casefold()).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)
