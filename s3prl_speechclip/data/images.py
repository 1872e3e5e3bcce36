"""Images: open any file that Pillow knows as 8-bit RGB.

Treatment of unusual images:

- transparency, also of a palette: composited on white, as on paper;
- greyscale, palette, CMYK, YCbCr: converted;
- 16-bit and floating-point greyscale: scaled to 8 bits, where Pillow alone would clip to white;
- animated: the first frame;
- EXIF orientation: not applied, as in CLIP's own transform, so that figures compare;
- missing, truncated, corrupt, or larger than Pillow's limit against decompression bombs:
  `ImageError`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError

REMEDY = "replace the file, or leave it out with --skip-broken"
SIXTEEN_BIT = 65535  # the largest value


def open_image(path: str | Path) -> Image.Image:
    """Open an image as RGB, decoded whole.

    Raises:
        ImageError: the file is missing, cannot be decoded, or is too large to be safe.
    """
    if not Path(path).is_file():
        found = "is a folder" if Path(path).is_dir() else "does not exist"
        raise ImageError(f"image '{path}' {found}; {REMEDY}")
    try:
        with warnings.catch_warnings():
            # Between one and two times its limit Pillow only warns; one limit is simpler.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return to_rgb(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            f"image '{path}' has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down, "
            "or leave it out with --skip-broken"
        ) from error
    except Exception as error:
        # Pillow's decoders meet damaged files with OSError, SyntaxError, ValueError, struct.error,
        # IndexError and others, by format.
        reason = " ".join(str(error).split()) or type(error).__name__
        if Path(path).stat().st_size == 0:
            reason = "an empty file"
        elif isinstance(error, UnidentifiedImageError):
            reason = "not an image, or of an unknown format"
        raise ImageError(f"image '{path}' cannot be decoded ({reason}); {REMEDY}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image to RGB, as described above."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top: float = SIXTEEN_BIT
    if image.mode == "F":  # such files do not store their range
        top = next((t for t in (1, 255, SIXTEEN_BIT) if values.max() <= t), float(values.max()))
    scaled = np.clip(values / top * 255, 0, 255).round().astype(np.uint8)
    return Image.fromarray(scaled)
