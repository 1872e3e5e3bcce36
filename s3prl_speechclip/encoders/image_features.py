"""Features of a corpus' images by CLIP's frozen image trunk, computed once and cached."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..atomic import atomic_file
from ..data.batches import unique_images
from ..data.cache import cache_home, check_owner
from ..data.images import open_image
from ..data.manifest import Manifest
from ..errors import CorpusError, ImageError
from ..hashing import state_hash
from .clip import ClipEncoder, image_trunk

logger = logging.getLogger(__name__)

BATCH = 32  # images
VERSION = 2  # of the cached file


@dataclass(frozen=True)
class ImageTable:
    """The trunk's features of a corpus' images."""

    features: Tensor
    """(N, F) float32, on the CPU."""
    row: dict[str, int]
    """By the image's path in the manifest."""

    def of(self, images: Sequence[str]) -> Tensor:
        """Return the features of some images, in their order, (len(images), F)."""
        return self.features[[self.row[image] for image in images]]


def load_image_table(
    clip: ClipEncoder,
    manifest: Manifest,
    splits: Sequence[str],
    *,
    skip_broken: bool,
    show_progress: bool = True,
) -> tuple[ImageTable, Manifest]:
    """Compute the trunk's features of the images of splits, or read them from the cache.

    The key of the cache holds the trunk's weights, and path, size and time of change of images.

    Args:
        clip: frozen CLIP; its trunk runs on the device where it is.
        manifest: the corpus.
        splits: names of the splits.
        skip_broken: whether images that cannot be read are left out, with their recordings.
        show_progress: whether to show a progress bar.

    Returns:
        The features, and the manifest without the recordings of broken images.

    Raises:
        ImageError: an image cannot be read, by name.
        CorpusError: none can.
    """
    images, _ = unique_images([u for u in manifest.utterances if u.split in splits])
    paths = [manifest.path(image) for image in images]
    features = _cached(clip, paths, skip_broken, show_progress)
    broken = {images[row] for row in features[:, 0].isnan().nonzero()[:, 0].tolist()}
    if broken and not skip_broken:
        open_image(manifest.path(min(broken)))  # raises its error again
    if broken:
        kept = tuple(u for u in manifest.utterances if u.image not in broken)
        if not kept:
            raise CorpusError(f"none of the {len(images)} images of {manifest.corpus} can be read")
        lost = len(manifest.utterances) - len(kept)
        note = f"left out: {len(broken)} images that cannot be read, with {lost} recordings"
        logger.warning("%s", note)
        manifest = replace(manifest, utterances=kept, notes=(*manifest.notes, note))
    return ImageTable(features, {image: row for row, image in enumerate(images)}), manifest


def _cached(clip: ClipEncoder, paths: Sequence[Path], skip_broken: bool, show: bool) -> Tensor:
    """Return (N, F); the row of a broken image is NaN."""
    cache = cache_home() / "image_features" / f"{_key(clip, paths)}.safetensors"
    if cache.is_file():
        try:
            check_owner(cache)
            with safe_open(cache, "pt") as file:
                stored = {"features": file.get_tensor("features")}
                if (file.metadata() or {}).get("sha256") != state_hash(stored):
                    raise CorpusError("its SHA-256 is not the one that was written")
            return stored["features"]
        except (OSError, SafetensorError, CorpusError) as error:
            logger.warning("'%s' is computed again: %s", cache, error)
    features = _compute(clip, paths, skip_broken, show)
    tensors = {"features": features}
    try:
        with atomic_file(cache) as partial:
            save_file(tensors, partial, {"sha256": state_hash(tensors)})
    except (OSError, SafetensorError) as error:
        logger.warning("image features are not kept: %s", error)
    return features


@torch.no_grad()
def _compute(clip: ClipEncoder, paths: Sequence[Path], skip_broken: bool, show: bool) -> Tensor:
    transform = clip.preprocess()
    device = clip.vocabulary.device
    # Convolutions of few channels take half the time with channels last.
    image_trunk(clip.clip).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows: dict[int, Tensor] = {}
    with tqdm(total=len(paths), desc="images", unit="image", disable=not show, leave=False) as bar:
        for start in range(0, len(paths), BATCH):
            pixels = {}
            for row in range(start, min(start + BATCH, len(paths))):
                try:
                    pixels[row] = transform(open_image(paths[row]))
                except ImageError as error:
                    if not skip_broken:
                        raise
                    logger.warning("%s", error)
            if pixels:
                batch = torch.stack(list(pixels.values())).to(memory_format=torch.channels_last)
                given = clip.image_features(batch.to(device))
                rows |= zip(pixels, given.float().cpu(), strict=True)
            bar.update(min(BATCH, len(paths) - start))
    if not rows:
        raise CorpusError(f"none of the {len(paths)} images can be read, the first: '{paths[0]}'")
    missing = torch.full_like(next(iter(rows.values())), float("nan"))
    return torch.stack([rows.get(row, missing) for row in range(len(paths))])


def _key(clip: ClipEncoder, paths: Sequence[Path]) -> str:
    trunk = image_trunk(clip.clip)
    digest = hashlib.sha256(state_hash(trunk.state_dict()).encode())
    # Activations and heads are no weights.
    heads = [module.num_heads for module in trunk.modules() if hasattr(module, "num_heads")]
    digest.update(f"{VERSION} {clip.preprocess()} {trunk} {heads}".encode())
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue  # named when it is read
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
