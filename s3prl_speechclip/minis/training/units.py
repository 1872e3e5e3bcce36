"""The units that masked prediction predicts: k-means clusters of MFCC, then of hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC
from tqdm import tqdm

from ...data.cache import made_once
from ...encoders.speech import SpeechEncoder
from ...modules.padding import pad_waveforms
from ...structures import HOP, SAMPLE_RATE
from .speech import SpeechCorpus

WINDOW = 400  # samples under a frame, as under HuBERT's convolutions
COEFFICIENTS = 13
FITTED = 250_000  # frames that clusters are fitted to
BATCH_FRAMES = 3_000  # padded frames encoded at once
LONGEST = 30 * SAMPLE_RATE  # samples encoded at once; longer recordings are cut here

Features = Callable[[list[NDArray[np.float32]]], list[NDArray[np.float32]]]
"""Computes the (T, D) frame features of waveforms."""


@dataclass(frozen=True)
class Units:
    """The unit of every frame of a corpus."""

    labels: NDArray[np.uint16]
    """All recordings' frames, one after another."""
    offsets: NDArray[np.int64]
    """(N + 1,) first frame of each recording, and the number of all."""
    count: int
    """Number of units."""

    def of(self, recording: int, first: int, frames: int) -> NDArray[np.uint16]:
        """Return the units of `frames` frames of a recording, from frame `first` on."""
        start = int(self.offsets[recording]) + first
        return self.labels[start : start + frames]


def frames_of(samples: int) -> int:
    """Return the number of frames that HuBERT's convolutions make of a number of samples."""
    return max(0, (samples - WINDOW) // HOP + 1)


def batches_of_like_length(frames: Mapping[int, int]) -> Iterator[list[int]]:
    """Cut recordings, by their frames, into batches of `BATCH_FRAMES`, the shortest first."""
    batch: list[int] = []
    for index in sorted(frames, key=lambda i: (frames[i], i)):
        if batch and (len(batch) + 1) * frames[index] > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def mfcc(waveforms: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Compute 13 MFCC with first and second differences, (T, 39) a recording (arXiv 2106.07447)."""
    options = {"n_fft": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False}
    transform = MFCC(SAMPLE_RATE, COEFFICIENTS, melkwargs=options)
    found = []
    for waveform in waveforms:
        base = transform(torch.from_numpy(waveform).unsqueeze(0))[0]
        first = compute_deltas(base)
        found.append(torch.cat([base, first, compute_deltas(first)]).T.numpy())
    return found


@torch.no_grad()
def hidden_states(
    encoder: SpeechEncoder, waveforms: list[NDArray[np.float32]]
) -> list[list[NDArray[np.float32]]]:
    """Compute the hidden states of a speech encoder, by layer, (T, D) a recording.

    Layer 0 enters the first transformer layer.
    """
    place = next(encoder.parameters()).device
    speech = pad_waveforms([torch.from_numpy(waveform) for waveform in waveforms]).to(place)
    found = encoder(speech)
    frames = found.lengths.tolist()
    return [
        [row[:t].float().cpu().numpy() for row, t in zip(layer, frames, strict=True)]
        for layer in found.hidden_states
    ]


def make_units(
    corpus: SpeechCorpus, features: Features, count: int, folder: Path, seed: int = 0
) -> Units:
    """Cluster a corpus' frames, or read the clusters that lie in the folder.

    Features are normalised to zero mean and unit variance per speaker first: a unit should be a
    sound, not a voice.

    Args:
        corpus: recordings that get units; the clusters are those of the split `train`.
        features: frame features of a batch of recordings.
        count: number of clusters.
        folder: place of the units.
        seed: seed of k-means and of the frames that it is fitted to.
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
    """Normalise each speaker's frames to zero mean and unit variance, in place."""
    by_speaker: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        by_speaker.setdefault(speaker, []).append(index)
    for indices in by_speaker.values():
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in indices])
        if not len(rows):
            continue
        values = table[rows].astype(np.float32)
        table[rows] = (values - values.mean(0)) / (values.std(0) + 1e-5)
