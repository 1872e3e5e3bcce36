"""Read the recordings of a split as batches."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import AudioError
from ..structures import HOP, SAMPLE_RATE, WINDOW, PairBatch, SpeechBatch
from .audio import audio_info, read_audio
from .feature_store import FeatureStore, collate_features, frame_count
from .files import WAV_HEADER
from .manifest import Manifest, Utterance
from .workers import call_ahead

log = logging.getLogger(__name__)

PATIENCE = 100  # broken recordings in a row before the corpus, not a file, is at fault

_NO_WORDS = torch.zeros(0, 2, dtype=torch.int64)

OnBroken = Literal["raise", "replace", "drop"]


def collate_speech(waveforms: Sequence[Tensor]) -> SpeechBatch:
    """Pad recordings with zeros to the longest.

    A recording shorter than one encoder frame counts as `WINDOW` samples long, its zeros included,
    so that every row has a valid frame.

    Args:
        waveforms: (L,) float32 each, 16 kHz; at least one.
    """
    lengths = torch.tensor([max(len(waveform), WINDOW) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return SpeechBatch(padded, lengths)


def unique_images(utterances: Sequence[Utterance]) -> tuple[tuple[str, ...], Tensor]:
    """Return each image once, and each recording's place among them, (N,) int64."""
    places: dict[str, int] = {}
    indices = [places.setdefault(utterance.image, len(places)) for utterance in utterances]
    return tuple(places), torch.tensor(indices, dtype=torch.int64)


def approximate_lengths(
    manifest: Manifest, utterances: Sequence[Utterance], max_samples: int | None = None
) -> np.ndarray:
    """Estimate recordings' lengths without decoding them, for batches of similar lengths.

    The sources, in this order: the corpus's own duration; the size of a WAV file, read as 16-bit
    mono at 16 kHz, which it is in the corpora known; the file's header. A missing or unreadable
    file counts as empty here, and is reported where it is read.

    Returns:
        (N,) int64, samples at 16 kHz, at most `max_samples`.
    """
    lengths = np.zeros(len(utterances), dtype=np.int64)
    for place, utterance in enumerate(utterances):
        path = manifest.path(utterance.audio)
        with suppress(OSError, AudioError):
            if utterance.duration > 0:
                lengths[place] = round(utterance.duration * SAMPLE_RATE)
            elif path.suffix.lower() == ".wav":
                lengths[place] = max(0, path.stat().st_size - WAV_HEADER) // 2
            else:
                lengths[place] = round(audio_info(path).duration * SAMPLE_RATE)
    return lengths if max_samples is None else np.minimum(lengths, max_samples)


class PairDataset:
    """The recordings of a split, read on demand.

    Args:
        manifest: corpus, provides the root of the paths.
        utterances: recordings of the split, in the manifest's order.
        max_samples: length limit; longer recordings are cropped to it, or to as many frames, at a
            place that depends on seed, epoch and index alone. None: no limit.
        seed: seed of the crops, not negative.
        on_broken: treatment of recordings that cannot be read. 'raise' names the first; 'replace'
            reads the next sound one, for training under --skip-broken; 'drop' leaves it out of
            batches, for evaluation, where a replacement would count twice. 'replace' and 'drop'
            log each broken recording once and list it in `broken`.
    """

    def __init__(
        self,
        manifest: Manifest,
        utterances: Sequence[Utterance],
        max_samples: int | None = None,
        seed: int = 0,
        on_broken: OnBroken = "raise",
    ) -> None:
        self.image_paths, self._image_indices = unique_images(utterances)
        self.broken: set[str] = set()
        """Recordings that could not be read so far, in any epoch."""
        self.on_broken = on_broken
        self._manifest = manifest
        self._utterances = utterances
        self._max_samples = max_samples
        self._seed = seed
        self._epoch = 0
        self._states: FeatureStore | None = None
        self._images = torch.empty(len(self.image_paths), 0)

    def __len__(self) -> int:
        return len(self._utterances)

    @property
    def on_device(self) -> bool:
        """Whether what is read lies on a GPU already."""
        return self._states is not None and self._states.on_device

    def at(self, epoch: int) -> PairDataset:
        """Return the same recordings with the crops of an epoch; `broken` is shared."""
        dataset = copy.copy(self)
        dataset._epoch = epoch
        return dataset

    def reading(
        self, states: FeatureStore | None = None, images: Tensor | None = None
    ) -> PairDataset:
        """Return the same recordings with hidden states, or (M, F) features of `image_paths`."""
        dataset = copy.copy(self)
        dataset._states = self._states if states is None else states
        dataset._images = self._images if images is None else images
        assert states is None or len(states) == len(self), "hidden states of another split"
        assert len(dataset._images) == len(self.image_paths), "images of another split"
        return dataset

    def read(self, indices: Sequence[int]) -> tuple[PairBatch | None, list[str]]:
        """Read recordings as one batch.

        Returns:
            The batch, None where all its recordings were dropped; and a message for each recording
            that could not be read.

        Raises:
            AudioError: a recording cannot be read and `on_broken` is 'raise', or it is 'replace'
                and none of the next `PATIENCE` recordings can be read either.
        """
        broken: list[str] = []
        rows = [row for index in indices if (row := self._read_sound(index, broken)) is not None]
        if not rows:
            return None, broken
        speech, words, read = zip(*rows, strict=True)
        utterances = [self._utterances[index] for index in read]
        collate = collate_speech if speech[0].ndim == 1 else collate_features
        batch = PairBatch(
            speech=replace(collate(speech), words=pad_sequence([*words], batch_first=True)),
            images=self._images[self._image_indices[list(read)]],
            pair_ids=torch.tensor([utterance.pair_id for utterance in utterances]),
            texts=tuple(utterance.english for utterance in utterances),
            indices=torch.tensor(read),
        )
        return batch, broken

    def _read_sound(self, index: int, broken: list[str]) -> tuple[Tensor, Tensor, int] | None:
        """Read a recording or its replacement, with word times and index; None: it is dropped."""
        tries = min(PATIENCE, len(self))
        for _ in range(tries):
            try:
                return *self._crop(self._read_whole(index), index), index
            except AudioError as error:
                if self.on_broken == "raise":
                    raise
                broken.append(str(error))
                if self.on_broken == "drop":
                    return None
                index = (index + 1) % len(self)
        raise AudioError(f"{tries} recordings in a row cannot be read, the last: {broken[-1]}")

    def _read_whole(self, index: int) -> Tensor:
        """Read a waveform, (L,), or hidden states, (layers, T, D)."""
        states = None if self._states is None else self._states.read(index)
        if states is not None:
            return states
        path = self._manifest.path(self._utterances[index].audio)
        if self._states is not None:
            raise AudioError(f"'{path}' could not be read when its features were computed")
        return torch.from_numpy(read_audio(path))

    def _crop(self, speech: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Return what is used of a recording, and (W, 2) samples in it of the words there."""
        words = _word_samples(self._utterances[index])
        time, step = (0, 1) if speech.ndim == 1 else (1, HOP)
        start, limit = 0, speech.shape[time]
        if self._max_samples is not None:
            limit = self._max_samples if speech.ndim == 1 else frame_count(self._max_samples)
        if speech.shape[time] > limit:
            random = np.random.default_rng([self._seed, self._epoch, index])
            start = int(random.integers(speech.shape[time] - limit + 1))
            speech = speech.narrow(time, start, limit)
        if len(words):
            words = (words - start * step).clamp(0, limit * step)
            words = words[words[:, 1] > words[:, 0]]
        return speech, words


def _word_samples(utterance: Utterance) -> Tensor:
    """Return (W, 2) first and last samples of a recording's words."""
    if not utterance.words:
        return _NO_WORDS
    times = torch.tensor([(word.start, word.end) for word in utterance.words])
    return (times * SAMPLE_RATE).round().long()


def read_ahead(batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
    """Read the next batch in a thread while the current one is used.

    For batches that this process reads itself: a data loader's workers must not be forked there.
    """
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = reader.submit(next, batches, None)
            yield batch


def load_batches(
    dataset: PairDataset, batches: Sequence[Sequence[int]], workers: int = 0
) -> Iterator[PairBatch]:
    """Read batches of a dataset's indices in order, ahead of their use where there are workers.

    A batch all of whose recordings are dropped is left out. With 0 workers this process reads.

    Raises:
        AudioError: a recording cannot be read, with the message of `read_audio` whichever process
            read it.
    """
    pin_memory = torch.cuda.is_available() and not dataset.on_device
    reads = call_ahead(dataset.read, batches, workers, pin_memory)
    for batch, broken in reads:
        for message in broken:
            if message not in dataset.broken:
                dataset.broken.add(message)
                log.warning("left out: %s", message)
        if batch is not None:
            yield batch
