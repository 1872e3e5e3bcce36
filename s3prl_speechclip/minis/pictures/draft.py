"""A picture before it is prepared, and how it is drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import resvg_py
from PIL import Image, ImageDraw, ImageFont, features

from ...data.images import open_image
from ...errors import CorpusError, ImageError
from ..stamps.prepare import DPI, Made, Work

SIDE = 256  # pixels, the longer side of a prepared picture at most
GLANCE = 16  # pixels, the width of a drawing whose proportions are wanted
FONT_SIZE = 109  # pixels, the one size of Noto Color Emoji's bitmaps
GLYPH = (136, 128)  # pixels, width and height


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A picture in a package."""

    name: str
    """Path without suffix, one of its source."""
    source: Path
    """The picture's file, or the font that draws it."""
    text: str = ""
    """What the font draws."""
    captions: tuple[str, ...]
    tags: tuple[str, ...] = ()


def drawn(work: Work) -> Made:
    """Draw a picture on white into its place."""
    assert work.source is not None
    try:
        if work.text:
            image = glyph(work.source, work.text)
        elif work.source.suffix == ".svg":
            image = drawing(work.source)
        else:
            image = open_image(work.source)
            image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    except ImageError as error:
        return Made(fault=str(error))
    work.target.parent.mkdir(parents=True, exist_ok=True)
    image.save(work.target, compress_level=1)
    return Made(blank=image.getextrema() == ((255, 255),) * 3)


def glyph(font: Path, text: str) -> Image.Image:
    """Draw an emoji in colour; one that the font lacks is blank.

    Raises:
        ImageError: the font cannot be read.
        CorpusError: this Pillow cannot join the characters of an emoji.
    """
    if not features.check("raqm"):
        raise CorpusError(
            "emoji of several characters are drawn with Raqm, which this Pillow lacks; install "
            "Pillow from its wheel"
        )
    try:
        loaded = ImageFont.truetype(str(font), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise ImageError(f"cannot read the font '{font}': {error}") from error
    image = Image.new("RGB", GLYPH, "white")
    # An emoji that the font cannot join would be several glyphs side by side, the first of them
    # another picture.
    if loaded.getlength(text) <= GLYPH[0]:
        ImageDraw.Draw(image).text((0, 0), text, font=loaded, embedded_color=True)
    return image


def drawing(path: Path) -> Image.Image:
    """Draw an SVG on white, whatever size it asks for, without the machine's fonts.

    Raises:
        ImageError: it cannot be drawn.
    """
    draw = partial(
        resvg_py.svg_to_bytes,
        svg_path=str(path),
        background="#ffffff",
        skip_system_fonts=True,
        dpi=DPI,
    )
    try:
        # Some ask for posters of a gigabyte: their proportions are read off a small one.
        width, height = Image.open(io.BytesIO(draw(width=GLANCE))).size
        drawn = draw(width=SIDE) if width >= height else draw(height=SIDE)
        return Image.open(io.BytesIO(drawn)).convert("RGB")
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot draw '{path}': {' '.join(str(error).split())}") from error
