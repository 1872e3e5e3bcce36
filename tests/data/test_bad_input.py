"""Files as users have them, in a whole corpus: read, left out and listed, or refused in one line.

Each kind has one documented treatment. None ends in a traceback, and none is dropped in silence.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from small_corpus import SMALL, write_flickr8k

from s3prl_speechclip.data.batches import PairDataset, load_batches
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.data.images import open_image
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.errors import CorpusError, ImageError, SpeechClipError

RATE = 16_000  # Hz
SAMPLES = RATE // 2
SIZE = (24, 16)
RANDOM = np.random.default_rng(0)
NOISE = (0.1 * RANDOM.standard_normal(SAMPLES)).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)

Damage = Callable[[Path], object]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_flickr8k(tmp_path / "corpus", train=3, dev=1, test=1)


def use(root: Path, skip_broken: bool) -> tuple[Manifest, int, set[str]]:
    """Read all that a corpus holds, as training does.

    Returns:
        The manifest, the number of recordings read, and the broken files met on the way.
    """
    manifest = load_corpus("flickr8k", root, skip_broken=skip_broken)
    images = {}
    broken = set()
    for image in sorted({u.image for u in manifest.utterances}):
        try:
            images[image] = open_image(manifest.path(image))
        except ImageError as error:
            if not skip_broken:
                raise
            broken.add(str(error))
    utterances = [u for u in manifest.utterances if u.image in images]
    dataset = PairDataset(manifest, utterances, on_broken="drop" if skip_broken else "raise")
    batches = list(load_batches(dataset, [[i] for i in range(len(utterances))]))
    for batch in batches:
        assert batch.speech.waveforms.isfinite().all()
    return manifest, len(batches), broken | dataset.broken


def wav(content: np.ndarray = NOISE, rate: int = RATE, **form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, content, rate, **({"format": "WAV"} | form))
    return file.getvalue()


def picture(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def written(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def with_data_size(size: int) -> bytes:
    content = bytearray(wav())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    return bytes(content)


def with_header_field(offset: int, form: str, value: int) -> bytes:
    """A WAV file with another value in its format chunk."""
    content = bytearray(wav())
    struct.pack_into(form, content, content.index(b"fmt ") + 8 + offset, value)
    return bytes(content)


def with_samples(value: float) -> bytes:
    samples = NOISE.copy()
    samples[7] = value
    return wav(samples, subtype="FLOAT")


HTML = b"<!DOCTYPE html><html><body>404 not found</body></html>"
NOISE_BYTES = RANDOM.integers(0, 256, 20_000, dtype=np.uint8).tobytes()
ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # the orientation
JPEG = picture(Image.fromarray(PIXELS))
PNG = picture(Image.fromarray(PIXELS), "PNG")

SOUND_RECORDINGS: dict[str, bytes] = {
    "stereo": wav(np.stack([NOISE, NOISE], 1)),
    "six channels": wav(np.stack([NOISE] * 6, 1)),
    "8 kHz": wav(NOISE, 8_000),
    "44.1 kHz": wav(NOISE, 44_100),
    "odd rate": wav(NOISE, 11_127),
    "8 bits": wav(subtype="PCM_U8"),
    "24 bits": wav(subtype="PCM_24"),
    "32 bits": wav(subtype="PCM_32"),
    "float": wav(subtype="FLOAT"),
    "double": wav(subtype="DOUBLE"),
    "mu-law": wav(subtype="ULAW"),
    "ADPCM": wav(subtype="IMA_ADPCM"),
    "extensible header": wav(format="WAVEX"),
    "RF64": wav(format="RF64"),
    "big-endian": wav(endian="BIG"),
    "FLAC called wav": wav(format="FLAC"),
    "Ogg called wav": wav(format="OGG"),
    "MP3 called wav": wav(format="MP3"),
    "AIFF called wav": wav(format="AIFF"),
    "one sample": wav(NOISE[:1]),
    "shorter than a frame": wav(NOISE[:399]),
    "silence": wav(np.zeros(SAMPLES)),
    "beyond the range": with_samples(50.0),
    "stream": with_data_size(0xFFFFFFFF),
    "bytes after the samples": wav() + b"LIST\x04\x00\x00\x00abcd",
    "a minute": wav(np.zeros(60 * RATE, dtype=np.int16)),
}
BROKEN_RECORDINGS: dict[str, Damage] = {
    "missing": Path.unlink,
    "folder": replaced_by_folder,
    "dead link": replaced_by_dead_link,
    "empty": written(b""),
    "bare header": written(wav(NOISE[:0])),
    "a part of a header": written(wav()[:30]),
    "half": written(wav()[: SAMPLES + 44]),
    "half in 24 bits": written(wav(subtype="PCM_24")[: SAMPLES + 44]),
    "half of FLAC": written(wav(format="FLAC")[:4_000]),
    "half of MP3": written(wav(format="MP3")[:1_500]),
    "half of Opus": written(wav(format="OGG", subtype="OPUS")[:1_000]),
    "text": written(b"this is no recording" * 20),
    "web page": written(HTML * 3),
    "image": written(PNG),
    "noise": written(NOISE_BYTES),
    "zeros": written(bytes(20_000)),
    "compressed": written(gzip.compress(wav())),
    "pointer of Git LFS": written(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n" * 2
    ),
    "no channel": written(with_header_field(2, "<H", 0)),
    "no rate": written(with_header_field(4, "<I", 0)),
    "unknown encoding": written(with_header_field(0, "<H", 0x7777)),
    "not a number": written(with_samples(float("nan"))),
    "infinity": written(with_samples(float("inf"))),
}
SOUND_IMAGES: dict[str, bytes] = {
    "grey": picture(Image.fromarray(PIXELS).convert("L")),
    "CMYK": picture(Image.fromarray(PIXELS).convert("CMYK")),
    "progressive": picture(Image.fromarray(PIXELS), progressive=True),
    "with orientation": picture(Image.fromarray(PIXELS), exif=ROTATED),
    "PNG called jpg": PNG,
    "transparent": picture(Image.fromarray(PIXELS).convert("RGBA"), "PNG"),
    "palette": picture(Image.fromarray(PIXELS).convert("P"), "PNG"),
    "two colours": picture(Image.fromarray(PIXELS).convert("1"), "PNG"),
    "16 bits": picture(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "GIF": picture(Image.fromarray(PIXELS), "GIF"),
    "WebP": picture(Image.fromarray(PIXELS), "WEBP"),
    "BMP": picture(Image.fromarray(PIXELS), "BMP"),
    "floating-point TIFF": picture(Image.fromarray(PIXELS[..., 0].astype(np.float32)), "TIFF"),
    "one pixel": picture(Image.new("RGB", (1, 1))),
    "one row": picture(Image.new("RGB", (3000, 1))),
    "bytes after the image": JPEG + b"trailing",
}
BROKEN_IMAGES: dict[str, Damage] = {
    "missing": Path.unlink,
    "folder": replaced_by_folder,
    "dead link": replaced_by_dead_link,
    "empty": written(b""),
    "half": written(JPEG[: len(JPEG) // 2]),
    "half of PNG": written(PNG[: len(PNG) // 2]),
    "header only": written(JPEG[:20]),
    "text": written(b"this is no image"),
    "web page": written(HTML),
    "recording": written(wav()),
    "noise": written(NOISE_BYTES),
    "compressed": written(gzip.compress(JPEG)),
    "drawing in SVG": written(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "pointer of Git LFS": written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
}


def recording_of(corpus: Path) -> Path:
    return sorted((corpus / "flickr_audio" / "wavs").glob("*_train_2.wav"))[0]


def image_of(corpus: Path) -> Path:
    return sorted((corpus / "Images").glob("*_train.jpg"))[0]


@pytest.mark.parametrize("kind", SOUND_RECORDINGS)
def test_recording_of_an_unusual_kind_is_read(corpus: Path, kind: str) -> None:
    """Fault: a recording that can be decoded stops a run, or is left out."""
    recording_of(corpus).write_bytes(SOUND_RECORDINGS[kind])
    _, read, broken = use(corpus, skip_broken=False)
    assert (read, broken) == (25, set())


@pytest.mark.parametrize("kind", SOUND_IMAGES)
def test_image_of_an_unusual_kind_is_read(corpus: Path, kind: str) -> None:
    """Fault: an image that can be decoded stops a run, or is left out."""
    image_of(corpus).write_bytes(SOUND_IMAGES[kind])
    _, read, broken = use(corpus, skip_broken=False)
    assert (read, broken) == (25, set())


@pytest.mark.parametrize(
    ("find", "damage", "left"),
    [
        *(
            pytest.param(recording_of, d, 24, id=f"{k} recording")
            for k, d in BROKEN_RECORDINGS.items()
        ),
        *(pytest.param(image_of, d, 20, id=f"{k} image") for k, d in BROKEN_IMAGES.items()),
    ],
)
def test_broken_file_is_named_or_left_out(corpus, find, damage, left, caplog) -> None:
    """Fault: a traceback; or --skip-broken drops a file without naming it, or one more."""
    path = find(corpus)
    damage(path)
    with pytest.raises(SpeechClipError) as error:
        use(corpus, skip_broken=False)
    assert str(path) in str(error.value)
    assert "--skip-broken" in str(error.value)
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        manifest, read, broken = use(corpus, skip_broken=True)
    assert read == left
    listed = [*manifest.notes, *broken]
    assert len(listed) == 1 and str(path) in listed[0]


GOOD_CAPTIONS: dict[str, Callable[[str], bytes]] = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "no end of the last line": lambda text: text.rstrip("\n").encode(),
    "white space at the ends": lambda text: text.replace("\n", "  \n").encode(),
    "line separator": lambda text: text.replace("picture", "pic\u2028ture").encode(),
    "next line": lambda text: text.replace("picture", "pic\u0085ture").encode(),
    "form feed": lambda text: text.replace("picture", "pic\x0cture").encode(),
    "emoji": lambda text: text.replace("picture", "🐕").encode(),
    "right to left": lambda text: text.replace("picture", "כלב").encode(),
    "quotation mark": lambda text: text.replace("picture", 'the "picture').encode(),
    "tab": lambda text: text.replace(" picture", "\tpicture").encode(),
    "long": lambda text: text.replace("picture", "very " * 5_000).encode(),
    "captions of other images": lambda text: (text + "other.jpg#0\tA dog .\n").encode(),
    "another order": lambda text: "\n".join(reversed(text.splitlines())).encode(),
}
BAD_CAPTIONS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "empty": (lambda text: b"", "has no caption"),
    "Latin-1": (lambda text: text.replace("picture", "café").encode("latin-1"), "not UTF-8"),
    "UTF-16": (lambda text: text.encode("utf-16"), "not UTF-8"),
    "binary": (lambda text: NOISE_BYTES, "not UTF-8"),
    "compressed": (lambda text: gzip.compress(text.encode()), "not UTF-8"),
    "web page": (lambda text: HTML, "must hold lines"),
    "spaces for tabs": (lambda text: text.replace("\t", " ").encode(), "must hold lines"),
    "no number": (lambda text: re.sub(r"#\d", "", text).encode(), "must hold lines"),
    "a letter for a number": (lambda text: text.replace("#1", "#x").encode(), "must hold lines"),
    "a negative number": (lambda text: text.replace("#1", "#-1").encode(), "must hold lines"),
    "a row without a text": (
        lambda text: text.replace("\t", "\t\n", 1).encode(),
        "must hold lines",
    ),
    "CSV": (lambda text: b"image,caption\n" + text.encode(), "must hold lines"),
    "cut": (lambda text: text[: len(text) // 2].encode(), "must hold lines|has no caption"),
    "other images": (lambda text: text.replace(".jpg", ".png").encode(), "has no caption"),
}


@pytest.mark.parametrize("kind", GOOD_CAPTIONS)
def test_captions_of_an_unusual_kind_are_read(corpus: Path, kind: str) -> None:
    """Fault: a caption is cut, lost, or taken for a malformed row."""
    path = corpus / "Flickr8k.token.txt"
    text = path.read_text()
    path.write_bytes(GOOD_CAPTIONS[kind](text))
    captions = [u.caption for u in load_corpus("flickr8k", corpus).utterances]
    assert len(captions) == 25
    assert all(c.startswith("A ") and re.search(r"number \d \.$", c) for c in captions)


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize("kind", BAD_CAPTIONS)
def test_bad_captions_are_refused(corpus: Path, kind: str, skip_broken: bool) -> None:
    """Fault: a traceback, or a corpus of wrong captions; --skip-broken is for single files."""
    damage, reason = BAD_CAPTIONS[kind]
    path = corpus / "Flickr8k.token.txt"
    path.write_bytes(damage(path.read_text()))
    with pytest.raises(CorpusError, match=reason) as error:
        load_corpus("flickr8k", corpus, skip_broken=skip_broken)
    assert str(corpus) in str(error.value)
    assert "\n" not in str(error.value)


def test_training_on_such_a_corpus_finishes(tmp_path: Path, monkeypatch, capsys) -> None:
    """Fault: a run under --skip-broken ends at the first broken file of a kind, or hides it."""
    from s3prl_speechclip.cli.pretrain import main

    monkeypatch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path / "cache"))
    corpus = write_flickr8k(tmp_path / "corpus", train=16)
    kinds = ("missing", "half", "text", "not a number", "half of FLAC")
    recordings = sorted((corpus / "flickr_audio" / "wavs").glob("*_train_*.wav"))[::16]
    for kind, path in zip(kinds, recordings, strict=True):
        BROKEN_RECORDINGS[kind](path)
    image = image_of(corpus)
    BROKEN_IMAGES["half"](image)
    options = f"{SMALL},,runner.total_steps=10,,runner.eval_step=10"
    arguments = ["-g", "mini_scratch", "--data", "flickr8k", "--data-root", str(corpus)]
    run = ["-p", str(tmp_path / "run"), "-o", options, "--skip-broken"]
    assert main([*arguments, *run]) == 0
    listed = capsys.readouterr().err
    # The first recording is one of the broken image, and goes with it unread.
    assert all(path.name in listed for path in (*recordings[1:], image))
