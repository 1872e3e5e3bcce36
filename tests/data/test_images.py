"""Images as users have them: each kind is opened as documented, or named in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3prl_speechclip.data.images import open_image
from s3prl_speechclip.errors import ImageError

SIZE = (8, 6)
RED = (255, 0, 0)
WHITE = (255, 255, 255)


def pixel(path: Path) -> tuple[int, ...]:
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.size == SIZE
    value = image.getpixel((0, 0))
    assert isinstance(value, tuple)
    return value


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def assert_one_line(error: pytest.ExceptionInfo[ImageError], path: Path) -> None:
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert "--skip-broken" in message


def test_plain_image_is_unchanged(tmp_path: Path) -> None:
    """Fault: colours are swapped or scaled."""
    assert pixel(save(tmp_path / "a.png", Image.new("RGB", SIZE, RED))) == RED


def test_transparent_shows_white(tmp_path: Path) -> None:
    """Fault: drawings on transparent ground get the black that is hidden under it."""
    assert pixel(save(tmp_path / "a.png", Image.new("RGBA", SIZE, (0, 0, 0, 0)))) == WHITE


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    """Fault: soft edges of drawings become hard."""
    assert pixel(save(tmp_path / "a.png", Image.new("RGBA", SIZE, (255, 0, 0, 51)))) == (
        255,
        204,
        204,
    )


def test_transparent_palette_shows_white(tmp_path: Path) -> None:
    """Fault: transparency that is a palette entry, as in GIF, is taken for its colour."""
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0, *RED])
    assert pixel(save(tmp_path / "a.gif", image, transparency=0)) == WHITE


def test_transparent_colour_shows_white(tmp_path: Path) -> None:
    """Fault: transparency that is one colour of an RGB PNG is ignored."""
    path = save(tmp_path / "a.png", Image.new("RGB", SIZE, RED), transparency=RED)
    assert pixel(path) == WHITE


def test_transparent_grey_shows_white(tmp_path: Path) -> None:
    """Fault: greyscale with alpha loses its alpha."""
    assert pixel(save(tmp_path / "a.png", Image.new("LA", SIZE, (0, 0)))) == WHITE


def test_palette_is_looked_up(tmp_path: Path) -> None:
    """Fault: palette indices are taken for grey values."""
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, *RED])
    assert pixel(save(tmp_path / "a.png", image)) == RED


@pytest.mark.parametrize(("mode", "value", "grey"), [("1", 1, 255), ("L", 100, 100)])
def test_grey_becomes_colour(tmp_path: Path, mode: str, value: int, grey: int) -> None:
    """Fault: an image of one channel fails in the transform."""
    assert pixel(save(tmp_path / "a.png", Image.new(mode, SIZE, value))) == (grey,) * 3


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    """Fault: Pillow clips 16-bit values, and all but black becomes white."""
    values = np.full(SIZE[::-1], 100 * 257, dtype=np.uint16)
    assert pixel(save(tmp_path / "a.png", Image.fromarray(values))) == (100, 100, 100)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floating_point_is_scaled(tmp_path: Path, top: float) -> None:
    """Fault: values in [0, 1] become black."""
    values = np.zeros(SIZE[::-1], dtype=np.float32)
    values[0, 0] = top
    assert pixel(save(tmp_path / "a.tiff", Image.fromarray(values))) == WHITE


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    """Fault: a print JPEG fails, or is inverted."""
    path = save(tmp_path / "a.jpg", Image.new("CMYK", SIZE, (0, 255, 255, 0)), quality=100)
    assert np.abs(np.subtract(pixel(path), RED)).max() < 8  # JPEG is lossy


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    """Fault: the last frame, or a batch of frames."""
    frames = [Image.new("RGB", SIZE, colour) for colour in (RED, WHITE)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert pixel(path) == RED


def test_missing_is_named(tmp_path: Path) -> None:
    """Fault: a traceback reaches the user."""
    with pytest.raises(ImageError, match="does not exist") as error:
        open_image(tmp_path / "none.jpg")
    assert_one_line(error, tmp_path / "none.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_truncated_is_named(tmp_path: Path, suffix: str) -> None:
    """Fault: half an image passes for a whole one."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cannot be decoded") as error:
        open_image(path)
    assert_one_line(error, path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "an empty file"), (b"not an image", "not an image")]
)
def test_corrupt_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    """Fault: a traceback of the decoder reaches the user."""
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as error:
        open_image(path)
    assert_one_line(error, path)


@pytest.mark.parametrize("excess", [1.5, 3.0])
def test_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess: float) -> None:
    """Fault: a small file fills the memory; or Pillow's mere warning lets it."""
    path = save(tmp_path / "a.png", Image.new("RGB", SIZE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(SIZE[0] * SIZE[1] / excess))
    with pytest.raises(ImageError, match="more than .* pixels") as error:
        open_image(path)
    assert_one_line(error, path)
