"""The units that masked prediction predicts: k-means clusters of MFCC, then of hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC
from tqdm import tqdm

from ...data.cache import made_once
from ...modules.padding import pad_waveforms
from ...structures import HOP, SAMPLE_RATE, SpeechBatch
from ..speech import SpeechCorpus

WINDOW = 400  # samples under a frame, as under HuBERT's convolutions
COEFFICIENTS = 13
FITTED = 250_000  # frames that clusters are fitted to
BATCH_FRAMES = 3_000  # padded frames encoded at once
LONGEST = 30 * SAMPLE_RATE  # samples encoded at once; longer recordings are cut here

Features = Callable[[list[NDArray[np.float32]]], list[NDArray[np.float32]]]
"""Gives the (T, D) frame features of waveforms."""


@dataclass(frozen=True)
class Units:
    """The unit of every frame of a corpus."""

    labels: NDArray[np.uint16]
    """All recordings' frames after one another."""
    offsets: NDArray[np.int64]
    """(N + 1,) where each recording's frames begin."""
    count: int
    """How many units there are."""

    def of(self, recording: int, first: int, frames: int) -> NDArray[np.uint16]:
        """Give the units of `frames` frames of a recording from frame `first` on."""
        start = int(self.offsets[recording]) + first
        return self.labels[start : start + frames]


def frames_of(samples: int) -> int:
    """Count the frames that HuBERT's convolutions make of so many samples."""
    return max(0, (samples - WINDOW) // HOP + 1)


def batches_of_like_length(frames: Mapping[int, int]) -> Iterator[list[int]]:
    """Cut recordings into batches of at most `BATCH_FRAMES` padded frames, the shortest first.

    Args:
        frames: how many each recording has.
    """
    batch: list[int] = []
    for index in sorted(frames, key=lambda i: (frames[i], i)):
        if batch and (len(batch) + 1) * frames[index] > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class MfccFeatures:
    """13 MFCC with first and second differences, (T, 39) a recording (HuBERT, arXiv 2106.07447)."""

    def __init__(self) -> None:
        self._transform = MFCC(
            SAMPLE_RATE,
            COEFFICIENTS,
            melkwargs={"n_fft": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False},
        )

    def __call__(self, waveforms: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [self._one(torch.from_numpy(waveform)) for waveform in waveforms]

    def _one(self, waveform: Tensor) -> NDArray[np.float32]:
        base = self._transform(waveform.unsqueeze(0))[0]
        first = compute_deltas(base)
        return torch.cat([base, first, compute_deltas(first)]).T.numpy()


class HiddenStateFeatures:
    """One layer's hidden states of a speech encoder, (T, D) a recording.

    Args:
        encode: gives the hidden states and valid frames of a batch.
        layer: 0 is what enters the first transformer layer.
    """

    def __init__(
        self, encode: Callable[[SpeechBatch], tuple[tuple[Tensor, ...], Tensor]], layer: int
    ) -> None:
        self._encode = encode
        self._layer = layer

    def __call__(self, waveforms: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        speech = pad_waveforms([torch.from_numpy(waveform) for waveform in waveforms])
        with torch.no_grad():
            states, frames = self._encode(speech)
        layer = states[self._layer].float().cpu()
        return [row[:t].numpy() for row, t in zip(layer, frames.tolist(), strict=True)]


def make_units(
    corpus: SpeechCorpus, features: Features, count: int, folder: Path, seed: int = 0
) -> Units:
    """Cluster a corpus' frames; what is in the folder already is read.

    Features are normalised to zero mean and unit variance per speaker first: a unit should be a
    sound, not a voice.

    Args:
        corpus: every recording gets units, the clusters are those of the split `train`.
        features: of a batch of recordings.
        count: of clusters.
        folder: where the units are kept.
        seed: of k-means and of the frames that it is fitted to.
    """

    def make(to: Path) -> None:
        table, offsets = _all_features(corpus, features)
        _normalize_speakers(table, offsets, [r.speaker for r in corpus.recordings])
        train = np.concatenate(
            [np.arange(offsets[i], offsets[i + 1]) for i in corpus.split("train")]
        )
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(train, min(FITTED, len(train)), replace=False))
        kmeans = MiniBatchKMeans(
            count, batch_size=10_000, n_init=3, max_iter=30, random_state=seed
        ).fit(table[chosen].astype(np.float32))
        labels = np.concatenate(
            [
                kmeans.predict(table[start : start + 100_000].astype(np.float32))
                for start in range(0, len(table), 100_000)
            ]
        )
        np.save(to / "labels.npy", labels.astype(np.uint16))
        np.save(to / "offsets.npy", offsets)

    folder = made_once(folder, make)
    return Units(np.load(folder / "labels.npy"), np.load(folder / "offsets.npy"), count)


def _all_features(
    corpus: SpeechCorpus, features: Features
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Compute every frame's features, (all frames, D) float16, and where recordings begin."""
    frames = [frames_of(recording.length) for recording in corpus.recordings]
    offsets = np.concatenate([[0], np.cumsum(frames)]).astype(np.int64)
    table: NDArray[np.float16] | None = None
    bar = tqdm(total=len(frames), desc="features", unit="recording", dynamic_ncols=True)
    for batch in batches_of_like_length({i: n for i, n in enumerate(frames) if n}):
        for index, found in zip(batch, _whole(corpus, batch, features), strict=True):
            if table is None:
                table = np.zeros((int(offsets[-1]), found.shape[1]), np.float16)
            own = min(len(found), frames[index])
            table[offsets[index] : offsets[index] + own] = found[:own]
        bar.update(len(batch))
    bar.close()
    assert table is not None, "a corpus has recordings"
    return table, offsets


def _whole(corpus: SpeechCorpus, batch: list[int], features: Features) -> list[NDArray[np.float32]]:
    waveforms = [corpus.waveform(index) for index in batch]
    if max(map(len, waveforms)) <= LONGEST:
        return features(waveforms)
    whole = []
    for waveform in waveforms:
        # Each piece but the last reads the rest of its last frame's window from the next one.
        pieces = [
            waveform[start : start + LONGEST + WINDOW - HOP]
            for start in range(0, max(1, len(waveform) - WINDOW + HOP), LONGEST)
        ]
        found = [features([piece])[0] for piece in pieces if len(piece) >= WINDOW]
        whole.append(np.concatenate(found))
    return whole


def _normalize_speakers(
    table: NDArray[np.float16], offsets: NDArray[np.int64], speakers: list[str]
) -> None:
    """Give each speaker's frames zero mean and unit variance, in place."""
    by_speaker: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        by_speaker.setdefault(speaker, []).append(index)
    for indices in by_speaker.values():
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in indices])
        if not len(rows):
            continue
        values = table[rows].astype(np.float32)
        table[rows] = (values - values.mean(0)) / (values.std(0) + 1e-5)
