"""Decode, synthesise and write the recordings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from ...data.audio import read_audio
from ...data.manifest import Word
from ...errors import AudioError, CorpusError
from ...structures import SAMPLE_RATE
from ..synthesis import Phone, read_with
from ..workers import in_workers
from .corpus import SAMPLES, Recording, save
from .items import Item

SHORTEST = 4_800  # samples; 0.3 s holds a syllable
SILENCE = 0.003  # peak below which a recording holds nothing, of 1
PEAK = 0.8  # that recordings are scaled to, of 1
BROKEN = "broken"


@dataclass(frozen=True)
class Made:
    """What became of an item."""

    samples: NDArray[np.int16]
    phones: tuple[Phone, ...] = ()
    words: tuple[Word, ...] = ()
    fault: str = ""
    """Why it cannot be used; empty where it can."""


def prepare(items: Sequence[Item], libraries: tuple[Path, ...], folder: Path) -> None:
    """Fill a corpus' folder; what is left out is counted in its notes.

    Args:
        items: the recordings, in order.
        libraries: what `synthesis.fetch_libraries` gives; empty where nothing is read aloud.
        folder: an empty folder.

    Raises:
        CorpusError: nothing can be used, or a voice cannot read a text.
    """
    recordings: list[Recording] = []
    heard: set[bytes] = set()
    faults: Counter[str] = Counter()
    broken: list[str] = []
    start = 0
    with open(folder / SAMPLES, "wb") as handle:
        results = in_workers(partial(make, libraries), items, "preparing speech")
        bar = tqdm(results, "preparing speech", len(items), unit="recording", disable=None)
        for item, made in zip(items, bar, strict=True):
            digest = hashlib.sha256(made.samples.tobytes()).digest()
            fault = made.fault or ("the same samples as another" if digest in heard else "")
            if fault:
                faults[fault] += 1
                broken += [item.recording_id] if fault == BROKEN else []
                continue
            heard.add(digest)
            handle.write(made.samples.tobytes())
            recordings.append(_recording(item, start, made))
            start += len(made.samples)
    if not recordings:
        raise CorpusError("no recording of the speech corpus can be read; fetch its packages again")
    notes = [f"left out: {count} recordings, {fault}" for fault, count in sorted(faults.items())]
    notes += [f"left out as broken: {name}" for name in broken]
    save(tuple(recordings), tuple(notes), folder)


def make(libraries: tuple[Path, ...], item: Item) -> Made:
    """Decode or synthesise one item, in a worker.

    Raises:
        CorpusError: its voice cannot read its text.
    """
    nothing = np.zeros(0, np.int16)
    phones: tuple[Phone, ...] = ()
    words: tuple[Word, ...] = ()
    if item.voice is None:
        assert item.path is not None
        try:
            waveform = read_audio(item.path)
        except AudioError:
            return Made(nothing, fault=BROKEN)
    else:
        reading = read_with(item.text, item.voice, libraries)
        samples = reading.samples.astype(np.float32) / 32768
        waveform = soxr.resample(samples, reading.sample_rate, SAMPLE_RATE)
        if item.split.startswith("probe"):
            phones, words = reading.phones, reading.words
    peak = float(np.abs(waveform).max())
    if len(waveform) < SHORTEST:
        return Made(nothing, fault=f"shorter than {SHORTEST / SAMPLE_RATE} s")
    if peak < SILENCE:
        return Made(nothing, fault="silent")
    return Made(np.rint(waveform * (PEAK / peak * 32767)).astype(np.int16), phones, words)


def _recording(item: Item, start: int, made: Made) -> Recording:
    return Recording(
        recording_id=item.recording_id,
        start=start,
        length=len(made.samples),
        source=item.source,
        speaker=item.speaker,
        language=item.language,
        split=item.split,
        text=item.text,
        phrase=item.phrase,
        synthetic=item.synthetic,
        phones=made.phones,
        words=made.words,
    )
