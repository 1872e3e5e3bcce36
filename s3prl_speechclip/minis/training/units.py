"""Targets of masked prediction: units of frames, and batches of crops with masks.

Units are k-means clusters of MFCC, then of hidden states. In the last round voices are changed.
Playing a recording faster or slower moves pitch and formants as another body does (vocal tract
length perturbation, Jaitly and Hinton, 2013; speed perturbation, Ko et al., 2015); a smooth gain
over frequency and noise stand for other microphones and rooms: a unit is to be learned as a sound,
whoever says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC
from tqdm import tqdm

from ...data.cache import made_once
from ...encoders.speech import SpeechEncoder
from ...modules.padding import pad_waveforms
from ...structures import HOP, SAMPLE_RATE, WINDOW
from .speech import SpeechCorpus

FITTED = 250_000  # frames that clusters are fitted to
BATCH = 8  # recordings encoded at once

MASKED = 0.1  # share of frames that a masked span begins at
SPAN = 5  # frames of a span; half of the paper's, which a small model learns from sooner
SPEED = 1.25  # greatest factor by which changed recordings are played faster, or slower
GAIN = 4.0  # dB, standard deviation of the gain over frequency
BANDS = 7  # points that the gain over frequency goes through
NOISE = (15.0, 50.0)  # dB, least and greatest level of white noise under the speech
CROPS = tuple(
    round(seconds * SAMPLE_RATE / HOP) * HOP + WINDOW - HOP
    for seconds in (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2, 2.7, 3.3)
)
"""Lengths of crops in samples: a recording gets the longest that it holds, so that batches need no
padding."""

Array = NDArray[np.float32]
Features = Callable[[list[Array]], list[Array]]
"""Computes the frame features of waveforms, (T, D) or (layers, T, D) each."""
Units = Sequence[NDArray[np.uint16]]
"""The unit of every frame, (T,) a recording."""


def frames_of(samples: int) -> int:
    """Return the number of frames that HuBERT's convolutions make of a number of samples."""
    return max(0, (samples - WINDOW) // HOP + 1)


def encoded(
    encode: Features, waveform: Callable[[int], Array], samples: Sequence[int]
) -> Iterator[tuple[int, Array]]:
    """Encode recordings of given lengths in batches; yield their indices and features."""
    order = np.argsort(samples, kind="stable").tolist()
    starts = range(0, len(order), BATCH)
    for start in tqdm(starts, "encoding", unit="batch", disable=None, leave=False):
        batch = order[start : start + BATCH]
        yield from zip(batch, encode([waveform(index) for index in batch]), strict=True)


def mfcc(waveforms: list[Array]) -> list[Array]:
    """Compute 13 MFCC with first and second differences, (T, 39) a recording (arXiv 2106.07447)."""
    options = {"n_fft": WINDOW, "hop_length": HOP, "n_mels": 40, "center": False}
    transform = MFCC(SAMPLE_RATE, 13, melkwargs=options)
    found = []
    for waveform in waveforms:
        base = transform(torch.from_numpy(waveform).unsqueeze(0))[0]
        first = compute_deltas(base)
        found.append(torch.cat([base, first, compute_deltas(first)]).T.numpy())
    return found


@torch.no_grad()
def hidden_states(encoder: SpeechEncoder, waveforms: list[Array]) -> list[Array]:
    """Compute the hidden states of a speech encoder, (layers, T, D) a recording.

    Layer 0 enters the first transformer layer.
    """
    place = next(encoder.parameters()).device
    speech = pad_waveforms([torch.from_numpy(waveform) for waveform in waveforms]).to(place)
    found = encoder(speech)
    layers = torch.stack(found.hidden_states).float().cpu().numpy()
    return [layers[:, row, :frames] for row, frames in enumerate(found.lengths.tolist())]


def make_units(
    corpus: SpeechCorpus, features: Features, count: int, folder: Path, seed: int = 0
) -> Units:
    """Cluster a corpus' frames, or read the clusters that lie in the folder.

    Features are normalised to zero mean and unit variance per speaker first: a unit should be a
    sound, not a voice.
    """
    frames = [frames_of(length) for length in corpus.lengths.tolist()]
    ends = np.cumsum(frames)

    def make(to: Path) -> None:
        table = np.zeros((0, 0), np.float16)
        for index, found in encoded(features, corpus.waveform, corpus.lengths.tolist()):
            if not len(table):
                table = np.zeros((int(ends[-1]), found.shape[1]), np.float16)
            table[ends[index] - frames[index] : ends[index]] = found[: frames[index]]
        codes, names = pd.factorize(corpus.recordings["speaker"])
        speakers = np.repeat(codes, frames)
        for speaker in range(len(names)):
            own = speakers == speaker
            values = table[own].astype(np.float32)
            table[own] = (values - values.mean(0)) / (values.std(0) + 1e-5)
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(len(table), min(FITTED, len(table)), replace=False))
        kmeans = MiniBatchKMeans(
            count, batch_size=10_000, n_init=3, max_iter=30, random_state=seed
        ).fit(table[chosen].astype(np.float32))
        blocks = (table[start : start + 100_000] for start in range(0, len(table), 100_000))
        labels = [kmeans.predict(block.astype(np.float32)) for block in blocks]
        np.save(to / "labels.npy", np.concatenate(labels).astype(np.uint16))

    return np.split(np.load(made_once(folder, make) / "labels.npy"), ends[:-1])


class MaskedCrops:
    """Batches of crops with their units and masks, each a function of seed and step alone.

    Args:
        corpus: recordings.
        units: units of their frames.
        batch_seconds: seconds of speech in a batch, about.
        seed: seed of all draws, not negative.
        changed: whether voices are changed.
    """

    def __init__(
        self,
        corpus: SpeechCorpus,
        units: Units,
        batch_seconds: float,
        seed: int = 0,
        *,
        changed: bool = False,
    ) -> None:
        self.corpus = corpus
        self.units = units
        self.batch_seconds = batch_seconds
        self.seed = seed
        self.changed = changed
        # The fastest one must fill its crop.
        fastest = SPEED if changed else 1.0
        places = np.searchsorted(np.array(CROPS), corpus.lengths / fastest, side="right") - 1
        self._buckets = {
            crop: np.flatnonzero(places == place)
            for place, crop in enumerate(CROPS)
            if (places == place).any()
        }

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a step's waveforms (B, L), units (B, T) and mask (B, T)."""
        random = np.random.default_rng([self.seed, step])
        # A long recording is drawn once for every crop that it holds.
        totals = np.array([self.corpus.lengths[own].sum() for own in self._buckets.values()])
        crop = int(random.choice(list(self._buckets), p=totals / totals.sum()))
        members = self._buckets[crop]
        size = max(2, round(self.batch_seconds * SAMPLE_RATE / crop))
        frames = frames_of(crop)
        lengths = self.corpus.lengths[members]
        chosen = random.choice(members, size, p=lengths / lengths.sum())
        waveforms = np.zeros((size, crop), np.float32)
        units = np.zeros((size, frames), np.int64)
        # As often slower as faster.
        speeds = np.exp(random.uniform(-1, 1, size) * np.log(SPEED)) if self.changed else [1] * size
        for row, (index, speed) in enumerate(zip(chosen.tolist(), speeds, strict=True)):
            length = int(self.corpus.lengths[index])
            read = min(int(np.ceil(crop * speed)), length)
            first = int(random.integers((length - read) // HOP + 1))
            start = int(self.corpus.starts[index]) + first * HOP
            waveforms[row] = played(self.corpus.samples[start : start + read], speed, crop)
            units[row] = self.units[index][first + source_frames(frames, speed, frames_of(read))]
        waveforms /= 32768  # as recordings are read, so that silence is normalised alike
        if self.changed:
            waveforms = recoloured(waveforms, random)
        waveforms -= waveforms.mean(1, keepdims=True)
        waveforms /= np.sqrt(waveforms.var(1, keepdims=True) + 1e-5)
        masked = draw_mask(size, frames, random)
        return torch.from_numpy(waveforms), torch.from_numpy(units), torch.from_numpy(masked)


def draw_mask(
    size: int, frames: int, random: np.random.Generator, probability: float = MASKED
) -> NDArray[np.bool_]:
    """Draw masked spans that may overlap; every row has masked and unmasked frames.

    Returns:
        (size, frames) bool, True where a frame is masked.
    """
    span = min(SPAN, max(1, frames // 2))
    starts = random.random((size, frames - span + 1)) < probability
    # A row without a span gets one; a row masked from end to end keeps its first frame.
    bare = ~starts.any(1)
    starts[bare, random.integers(frames - span + 1, size=int(bare.sum()))] = True
    masked = np.zeros((size, frames), np.bool_)
    for shift in range(span):
        masked[:, shift : shift + starts.shape[1]] |= starts
    masked[masked.all(1), 0] = False
    return masked


def played(samples: NDArray[np.number], speed: float, length: int) -> Array:
    """Return `length` samples of a recording played `speed` times faster, by interpolation."""
    if speed == 1:
        return samples[:length].astype(np.float32)
    places = np.arange(length) * speed
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)


def source_frames(frames: int, speed: float, known: int) -> NDArray[np.int64]:
    """Return the frames, of `known`, under the frames of what is played `speed` times faster."""
    centres = (np.arange(frames) * HOP + WINDOW / 2) * speed
    return np.clip(np.rint((centres - WINDOW / 2) / HOP), 0, known - 1).astype(np.int64)


def recoloured(waveforms: Array, random: np.random.Generator) -> Array:
    """Change the gain over frequency of (B, L) waveforms, each its own way, and add noise."""
    count, length = waveforms.shape
    gains = random.normal(0, GAIN, (count, 1, BANDS)).astype(np.float32)
    spectrum = torch.fft.rfft(torch.from_numpy(waveforms))
    decibels = F.interpolate(
        torch.from_numpy(gains), spectrum.shape[1], mode="linear", align_corners=True
    )
    spectrum *= 10 ** (decibels.squeeze(1) / 20)
    waveforms = torch.fft.irfft(spectrum, length).numpy()
    levels = 10 ** (-random.uniform(*NOISE, (count, 1)) / 20)
    scale = waveforms.std(1, keepdims=True) * levels.astype(np.float32)
    noise: Array = random.standard_normal(waveforms.shape, np.float32)
    return waveforms + scale * noise
