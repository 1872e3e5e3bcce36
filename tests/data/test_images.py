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


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def palette(entry: int) -> Image.Image:
    image = Image.new("P", SIZE, entry)
    image.putpalette([0, 0, 0, *RED])
    return image


def bright(top: float) -> Image.Image:
    values = np.zeros(SIZE[::-1], dtype=np.float32)
    values[0, 0] = top
    return Image.fromarray(values)


SIXTEEN_BITS = Image.fromarray(np.full(SIZE[::-1], 100 * 257, dtype=np.uint16))
ANIMATION = {"save_all": True, "append_images": [Image.new("RGB", SIZE, WHITE)]}


@pytest.mark.parametrize(
    ("suffix", "image", "options", "pixel"),
    [
        pytest.param("png", Image.new("RGB", SIZE, RED), {}, RED, id="plain"),
        pytest.param("png", Image.new("RGBA", SIZE, (0, 0, 0, 0)), {}, WHITE, id="transparent"),
        pytest.param("png", Image.new("RGBA", SIZE, (*RED, 51)), {}, (255, 204, 204), id="mixed"),
        pytest.param("gif", palette(0), {"transparency": 0}, WHITE, id="transparent entry"),
        pytest.param(
            "png",
            Image.new("RGB", SIZE, RED),
            {"transparency": RED},
            WHITE,
            id="transparent colour",
        ),
        pytest.param("png", Image.new("LA", SIZE, (0, 0)), {}, WHITE, id="transparent grey"),
        pytest.param("png", palette(1), {}, RED, id="palette"),
        pytest.param("png", Image.new("1", SIZE, 1), {}, WHITE, id="two colours"),
        pytest.param("png", Image.new("L", SIZE, 100), {}, (100, 100, 100), id="grey"),
        pytest.param("png", SIXTEEN_BITS, {}, (100, 100, 100), id="16 bits"),
        pytest.param("tiff", bright(1.0), {}, WHITE, id="float to 1"),
        pytest.param("tiff", bright(255.0), {}, WHITE, id="float to 255"),
        pytest.param("tiff", bright(65535.0), {}, WHITE, id="float to 65535"),
        pytest.param(
            "jpg", Image.new("CMYK", SIZE, (0, 255, 255, 0)), {"quality": 100}, RED, id="CMYK"
        ),
        pytest.param("gif", Image.new("RGB", SIZE, RED), ANIMATION, RED, id="first frame"),
    ],
)
def test_every_mode_becomes_rgb_on_white(tmp_path: Path, suffix, image, options, pixel) -> None:
    """Fault: palette indices are greys, 16 bits clip to white, transparency is black."""
    opened = open_image(save(tmp_path / f"a.{suffix}", image, **options))
    assert (opened.mode, opened.size) == ("RGB", SIZE)
    found = np.array(opened.getpixel((0, 0)))
    assert np.abs(found - pixel).max() <= (8 if suffix == "jpg" else 0)  # JPEG is lossy


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as error:
        open_image(path)
    message = str(error.value)
    assert str(path) in message and "--skip-broken" in message and "\n" not in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_truncated_is_named(tmp_path: Path, suffix: str) -> None:
    """Fault: half an image passes for a whole one."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "cannot be decoded")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "does not exist"), (b"", "an empty file"), (b"not an image", "not an image")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """Fault: a traceback of the decoder reaches the user."""
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    refused(path, reason)


@pytest.mark.parametrize("excess", [1.5, 3.0])
def test_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess: float) -> None:
    """Fault: a small file fills the memory; or Pillow's mere warning lets it."""
    path = save(tmp_path / "a.png", Image.new("RGB", SIZE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(SIZE[0] * SIZE[1] / excess))
    refused(path, "more than .* pixels")
