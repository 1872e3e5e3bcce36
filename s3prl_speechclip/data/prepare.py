"""Prepare a corpus once: recordings as 16 kHz mono files that are read without conversion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from ..errors import AudioError, CorpusError
from ..structures import SAMPLE_RATE
from .audio import read_audio
from .cache import made_once
from .manifest import MANIFEST, Manifest, Utterance

FULL_SCALE = 2**15  # of a 16-bit sample
PER_FOLDER = 1000  # recordings


def prepare(manifest: Manifest, folder: Path, skip_broken: bool = False) -> Manifest:
    """Write a corpus's recordings as 16 kHz mono files, with a manifest for `--data FOLDER`.

    Samples stay as `read_audio` returns them, to the last bit: those that fit 16 bits are written
    as FLAC, others (resampled or averaged recordings) as WAV files of 32-bit floats. Images stay
    where they are. The folder appears whole or not at all.

    Args:
        manifest: the corpus.
        folder: folder to make.
        skip_broken: leave out, and count, recordings that cannot be read.

    Raises:
        CorpusError: the folder holds something, or cannot be written.
        AudioError: a recording cannot be read and `skip_broken` is off.
    """
    folder = folder.expanduser().absolute()
    if folder.is_dir() and any(folder.iterdir()):
        raise CorpusError(f"'{folder}' is not empty; name another folder with --out")

    def make(partial_folder: Path) -> None:
        broken: list[str] = []
        kept = list(_write_all(manifest, partial_folder, broken, skip_broken))
        notes = (*manifest.notes, *([f"{len(broken)} recordings left out"] if broken else []))
        done = replace(manifest, root=partial_folder, utterances=tuple(kept), notes=notes)
        done.save(partial_folder / MANIFEST)

    return Manifest.load(made_once(folder, make) / MANIFEST)


def _write_all(
    manifest: Manifest, folder: Path, broken: list[str], skip_broken: bool
) -> Iterator[Utterance]:
    rows = list(enumerate(manifest.utterances))
    for start in range(0, len(rows), PER_FOLDER):
        (folder / "audio" / f"{start // PER_FOLDER:04d}").mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(_write, manifest, folder), rows)
        for found in tqdm(results, "recordings", len(rows), unit="recording", leave=False):
            if isinstance(found, Utterance):
                yield found
            elif skip_broken:
                broken.append(str(found))
            else:
                pool.shutdown(cancel_futures=True)
                raise found


def _write(manifest: Manifest, folder: Path, row: tuple[int, Utterance]) -> Utterance | AudioError:
    number, utterance = row
    try:
        samples = read_audio(manifest.path(utterance.audio))
    except AudioError as error:
        return error
    whole = np.rint(samples * FULL_SCALE)
    fits = bool((whole == samples * FULL_SCALE).all() and (abs(whole) < FULL_SCALE).all())
    path = f"audio/{number // PER_FOLDER:04d}/{number:07d}.{'flac' if fits else 'wav'}"
    content = whole.astype(np.int16) if fits else samples
    soundfile.write(folder / path, content, SAMPLE_RATE, "PCM_16" if fits else "FLOAT")
    return replace(
        utterance,
        audio=path,
        image=str(manifest.path(utterance.image)),
        duration=utterance.duration or len(samples) / SAMPLE_RATE,
    )
