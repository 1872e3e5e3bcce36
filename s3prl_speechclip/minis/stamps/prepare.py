"""Turn the package's files into 16 kHz mono recordings and RGB pictures, and read the captions.

Everything runs in worker processes: two cores halve the time, and a synthesiser that crashes takes
a worker with it and not the user's program.
"""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import resvg_py
import soxr
from PIL import Image

from ...data.audio import read_audio
from ...data.images import open_image
from ...data.manifest import Word
from ...errors import AudioError, ImageError
from ...structures import SAMPLE_RATE
from ..synthesis import Reading, read_aloud
from ..workers import CHUNK, in_workers

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the number done and the number in all."""

T = TypeVar("T")
DRAWING_SIDE = 400  # pixels, the longer side of a rendered drawing, that of a large photograph
DPI = 96  # CSS pixels per inch, for drawings whose size is in points or millimetres


@dataclass(frozen=True)
class Work:
    """A file to make; the fields that its kind needs."""

    target: Path
    source: Path | None = None
    """A recording or a picture."""
    text: str = ""
    voice: str = ""
    libraries: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Made:
    """What became of a piece of work."""

    duration: float = 0.0
    """Seconds, of a recording."""
    words: tuple[Word, ...] = ()
    content: str = ""
    """SHA-256 of the samples or pixels."""
    blank: bool = False
    """A picture that is white all over: a white drawing without its transparency."""
    fault: str = ""
    """Why the source cannot be used; empty where it can."""


def recording(work: Work) -> Made:
    """Convert a recording."""
    assert work.source is not None
    try:
        samples = read_audio(work.source)
    except AudioError as error:
        return Made(fault=str(error))
    return _write(work.target, samples)


def reading(work: Work) -> Made:
    """Synthesise a caption."""
    return write_reading(work.target, read_aloud(work.text, work.voice, work.libraries))


def write_reading(target: Path, read: Reading) -> Made:
    """Write what a voice said, at 16 kHz."""
    samples = read.samples.astype(np.float32) / 32768
    if read.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, read.sample_rate, SAMPLE_RATE, quality="HQ")
    made = _write(target, samples)
    # Resampling may drop a fraction of a sample at the end.
    words = tuple(Word(w.text, w.start, min(w.end, made.duration)) for w in read.words)
    return replace(made, words=words)


def picture(work: Work) -> Made:
    """Convert a picture: transparency becomes white, drawings become pixels."""
    assert work.source is not None
    work.target.parent.mkdir(parents=True, exist_ok=True)
    try:
        image = _render(work.source) if work.source.suffix == ".svg" else open_image(work.source)
    except ImageError as error:
        return Made(fault=str(error))
    image.save(work.target, compress_level=1)
    content = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    return Made(content=content, blank=image.getextrema() == ((255, 255),) * 3)


def run(make: Callable[[T], Made], works: Sequence[T], what: str, progress: Progress) -> list[Made]:
    """Do the work on all cores; results come in the order of `works`.

    Raises:
        CorpusError: a worker process died.
    """
    done: list[Made] = []
    progress(what, 0, len(works))
    for made in in_workers(make, works, what):
        done.append(made)
        if len(done) % CHUNK == 0 or len(done) == len(works):
            progress(what, len(done), len(works))
    return done


def file_name(*parts: str) -> str:
    """Name a file by what it is made of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _write(target: Path, samples: np.ndarray) -> Made:
    """Write 16-bit mono."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    with open(target, "wb") as handle, wave.open(handle, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(pcm.tobytes())
    return Made(len(pcm) / SAMPLE_RATE, content=hashlib.sha256(pcm.tobytes()).hexdigest())


def _render(source: Path) -> Image.Image:
    """Draw an SVG on white, without the machine's fonts: they differ between machines."""
    try:
        draw = partial(
            resvg_py.svg_to_bytes,
            svg_path=str(source),
            background="#ffffff",
            skip_system_fonts=True,
            dpi=DPI,
        )
        width, height = Image.open(io.BytesIO(draw())).size
        drawn = draw(width=DRAWING_SIDE) if width >= height else draw(height=DRAWING_SIDE)
        return Image.open(io.BytesIO(drawn)).convert("RGB")
    except (ValueError, OSError) as error:
        raise ImageError(f"cannot draw '{source}': {' '.join(str(error).split())}") from error


def used(works: Iterable[Work]) -> list[Work]:
    """Give each file to make once."""
    return list({work.target: work for work in works}.values())
