"""The files of a mini set: recordings read aloud or converted, and pictures, on all cores.

Worker processes halve the time on two cores, and a synthesiser that crashes takes a worker with it
and not the user's program.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import numpy as np
import resvg_py
import soundfile
import soxr
from PIL import Image, ImageDraw, ImageFont, features
from tqdm import tqdm

from ..data.audio import read_audio
from ..data.images import open_image
from ..data.manifest import Word
from ..errors import AudioError, CorpusError, ImageError
from ..structures import SAMPLE_RATE
from .synthesis import Phone, Reading, Voice, fetch_libraries, read_aloud

PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
CHUNK = 16  # pieces of work that a worker takes at a time
DPI = 96  # CSS pixels per inch, for drawings whose size is in points or millimetres
GLANCE = 16  # pixels, the width of a drawing whose proportions are wanted
FONT_SIZE = 109  # pixels, the one size of Noto Color Emoji's bitmaps
GLYPH = (136, 128)  # pixels, width and height
SILENT = 0.01  # of the peak

SYNTHETIC = (
    "synthetic speakers: espeak-ng's variants (GPL-3.0-or-later program) and CMU's voices in "
    "Debian's libflite1 (BSD-like)"
)

Item = TypeVar("Item")
Work = TypeVar("Work")
Result = TypeVar("Result")


class Saying(NamedTuple):
    """A text that a voice reads."""

    voice: Voice
    text: str


@dataclass(frozen=True)
class Drawing:
    """A picture to write as pixels on white."""

    path: str
    """Relative to the set's folder."""
    source: Path
    """A picture, or the font that draws `text`."""
    text: str = ""
    side: int = 256
    """Longer side in pixels."""
    shrink: bool = True
    """Whether `side` is for photographs too, which else keep their size."""


@dataclass(frozen=True)
class Made:
    """A file that was made, or the reason why not."""

    duration: float = 0.0
    """Seconds, of a recording."""
    words: tuple[Word, ...] = ()
    phones: tuple[Phone, ...] = ()
    content: str = ""
    """SHA-256 of the samples or pixels."""
    blank: bool = False
    """True for a picture that is white all over: a white drawing without its transparency."""
    fault: str = ""
    """Why the source cannot be used; empty where it can."""


@dataclass(frozen=True)
class Built:
    """A mini set whose folder was filled."""

    counts: Mapping[str, int]
    """Recordings by part."""
    notes: tuple[str, ...]


def record(
    sounds: Mapping[str, Saying | Path],
    root: Path,
    archive: Path | None,
    *,
    keep_faults: bool = False,
    margin: int | None = None,
) -> dict[str, Made]:
    """Read texts aloud and convert recordings, into 16 kHz mono files.

    Args:
        sounds: what to record, by path relative to `root`; .wav or .flac.
        root: the set's folder.
        archive: packages of the synthesisers, see `debian.packages`.
        keep_faults: return what cannot be read as a fault.
        margin: samples to keep of the silence before and after the sound; None: all, and the times
            of words and phones.

    Raises:
        AudioError: a text or recording cannot be read.
    """
    make = partial(_record, root, fetch_libraries(archive), margin)
    results = in_workers(make, [*sounds.items()], "making recordings")
    made = dict(zip(sounds, results, strict=True))
    faults = [one.fault for one in made.values() if one.fault]
    if faults and not keep_faults:
        raise AudioError(faults[0])
    return made


def draw(drawings: Sequence[Drawing], root: Path) -> list[Made]:
    """Write pictures, in order; one that cannot be drawn is a fault."""
    return list(in_workers(partial(_draw, root), drawings, "preparing pictures"))


def write_audio(path: Path, samples: np.ndarray) -> Made:
    """Write (L,) samples in [-1, 1] as 16 kHz mono of 16 bits, .wav or .flac."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    soundfile.write(path, pcm, SAMPLE_RATE, subtype="PCM_16")
    return Made(len(pcm) / SAMPLE_RATE, content=hashlib.sha256(pcm.tobytes()).hexdigest())


def waveform_of(reading: Reading) -> np.ndarray:
    """Return a reading as (L,) float32 at 16 kHz."""
    samples = reading.samples.astype(np.float32) / 32768
    if reading.sample_rate == SAMPLE_RATE:
        return samples
    return soxr.resample(samples, reading.sample_rate, SAMPLE_RATE)


def trimmed(samples: np.ndarray, margin: int) -> np.ndarray:
    """Cut silence off both ends of (L,) samples, but for `margin` samples around the sound.

    A recording that is silent all over stays whole.
    """
    loud = np.flatnonzero(np.abs(samples) > SILENT * np.abs(samples).max())
    if not len(loud):
        return samples
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, each line ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def file_name(text: str) -> str:
    """Return a file name, without suffix, for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def fraction(text: str) -> float:
    """Hash a text to [0, 1)."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def minutes(recordings: Iterable[Made]) -> str:
    """Write the duration of recordings."""
    return f"{sum(made.duration for made in recordings) / 60:.1f} min"


def speakers_note(splits: Mapping[str, Sequence[str]]) -> str:
    """Write how many speakers the splits have."""
    counts = ", ".join(f"{len(names)} {split}" for split, names in splits.items())
    return f"speakers, each in one split: {counts}"


def dealt(items: Iterable[Item], count: int, random: Random) -> list[Item]:
    """Draw `count` items in random order, each as often as the others."""
    pool = list(items)
    drawn = [item for _ in range(-(-count // len(pool))) for item in random.sample(pool, len(pool))]
    return drawn[:count]


def groups(keys: Sequence[Iterable[str]]) -> list[int]:
    """Group things with a key in common, directly or through others: the first of each's group."""
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(row), root(first.setdefault(key, row))))
            parent[other] = one
    return [root(row) for row in range(len(keys))]


def draw_svg(path: Path, side: int) -> Image.Image:
    """Draw an SVG on white, `side` pixels long, without the machine's fonts: they differ."""
    render = partial(
        resvg_py.svg_to_bytes,
        svg_path=str(path),
        background="#ffffff",
        skip_system_fonts=True,
        dpi=DPI,
    )
    try:
        # Its proportions are read off a small picture: some ask for a gigabyte of pixels.
        width, height = Image.open(io.BytesIO(render(width=GLANCE))).size
        drawn = render(width=side) if width >= height else render(height=side)
        return Image.open(io.BytesIO(drawn)).convert("RGB")
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot draw '{path}': {' '.join(str(error).split())}") from error


def draw_glyph(font: Path, text: str) -> Image.Image:
    """Draw an emoji in colour; one that the font lacks is blank."""
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


def in_workers(
    make: Callable[[Work], Result], works: Sequence[Work], what: str
) -> Iterator[Result]:
    """Do the work on all cores, with a progress bar; yield the results in the order of `works`.

    Raises:
        CorpusError: a worker process died.
    """
    # Forked workers start at once: spawned ones would import torch again. `make` does nothing that
    # forking beside other threads endangers: no torch, no locks of the parent's.
    context = multiprocessing.get_context("fork")
    cores = len(os.sched_getaffinity(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        with ProcessPoolExecutor(cores, context, _die_with_parent, (os.getpid(),)) as pool:
            try:
                results = pool.map(make, works, chunksize=CHUNK)
                yield from tqdm(results, what, len(works), unit="file", disable=None)
            except BrokenProcessPool as error:
                raise CorpusError(
                    f"a worker process died while {what}; memory may be short: free some and try "
                    "again"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _die_with_parent(parent: int) -> None:
    """End a worker when its parent is killed: it would wait for work, holding the corpus's lock."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _record(
    root: Path,
    libraries: tuple[Path, ...],
    margin: int | None,
    work: tuple[str, Saying | Path],
) -> Made:
    path, sound = work
    words: tuple[Word, ...] = ()
    phones: tuple[Phone, ...] = ()
    try:
        if isinstance(sound, Path):
            samples = read_audio(sound)
        else:
            reading = read_aloud(sound.text, sound.voice, libraries)
            samples, words, phones = waveform_of(reading), reading.words, reading.phones
    except (AudioError, CorpusError) as error:
        return Made(fault=str(error))
    if margin is not None:
        return write_audio(root / path, trimmed(samples, margin))
    made = write_audio(root / path, samples)
    # Resampling may drop a fraction of a sample at the end.
    return replace(
        made,
        words=tuple(Word(w.text, w.start, min(w.end, made.duration)) for w in words),
        phones=tuple(Phone(p.symbol, p.start, min(p.end, made.duration)) for p in phones),
    )


def _draw(root: Path, drawing: Drawing) -> Made:
    source = drawing.source
    try:
        if drawing.text:
            image = draw_glyph(source, drawing.text)
        elif source.suffix == ".svg":
            image = draw_svg(source, drawing.side)
        else:
            image = open_image(source)
            if drawing.shrink:
                image.thumbnail((drawing.side, drawing.side), Image.Resampling.BICUBIC)
    except ImageError as error:
        return Made(fault=str(error))
    (root / drawing.path).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / drawing.path, compress_level=1)
    content = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    return Made(content=content, blank=image.getextrema() == ((255, 255),) * 3)
