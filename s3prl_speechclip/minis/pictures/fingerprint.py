"""What a picture looks like from afar, to find copies of it in another size or format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

SIDE = 16  # pixels of a fingerprint
PAPER = 12  # of 255: what differs less from white is paper
SAME = 0.1  # of the ink of two pictures; what copies differ by at most


def fingerprint(image: Image.Image) -> NDArray[np.float32]:
    """Shrink what a picture shows, without the white around it, to a small square.

    Args:
        image: RGB.

    Returns:
        (768,) in [0, 1].
    """
    difference = ImageChops.difference(image, Image.new("RGB", image.size, "white"))
    inked = difference.convert("L").point(lambda value: 255 * (value > PAPER))
    shown = image.crop(inked.getbbox() or (0, 0, *image.size))
    side = max(shown.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(shown, ((side - shown.width) // 2, (side - shown.height) // 2))
    small = square.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / np.float32(255)


def copies(
    prints: NDArray[np.float32], originals: NDArray[np.float32], threshold: float = SAME
) -> NDArray[np.bool_]:
    """Say which pictures are copies of others.

    Two pictures are compared by the ink that they do not share, as a part of all the ink of both,
    so that a thin drawing is not like every other thin drawing, nor a blank one like any.

    Args:
        prints: fingerprints, (N, 768).
        originals: fingerprints of what they may be copies of, (M, 768).
        threshold: difference up to which two are one picture.

    Returns:
        (N,) bool.
    """
    found = np.zeros(len(prints), np.bool_)
    ink = (1 - prints).sum(1)
    for original in originals:
        both = ink + (1 - original).sum()
        found |= np.abs(prints - original).sum(1) < threshold * both
    return found
