"""From the recordings of a split to batches.

Images stay out: a batch says which image of the split each row describes, because what the frozen
image encoder makes of them is computed once.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import AudioError
from ..structures import SAMPLE_RATE, SpeechBatch, SpeechFeatures
from .audio import FRAME, audio_info, read_audio
from .corpora.files import WAV_HEADER
from .feature_store import FeatureStore, collate_features, frame_count
from .manifest import Manifest, Utterance

log = logging.getLogger(__name__)

PATIENCE = 100  # broken recordings in a row before the corpus, not a file, is at fault

OnBroken = Literal["raise", "replace", "drop"]


@dataclass(frozen=True)
class PairItem:
    """One recording of a split."""

    speech: Tensor
    """Waveform (L,) float32, 16 kHz; or its hidden states (layers, T, D) float16."""
    index: int
    """Of the recording in its split."""
    image_index: int
    """Of the image in `PairDataset.image_paths`."""
    pair_id: int
    text: str
    """English caption, or empty."""
    broken: tuple[str, ...] = ()
    """Recordings that could not be read, and that this one stands for."""


@dataclass(frozen=True)
class IndexedPairs:
    """A batch of recordings, and which images they describe."""

    speech: SpeechBatch | SpeechFeatures
    """Recordings, or their hidden states where those are cached."""
    indices: Tensor
    """(B,) int64, the recordings' places in the split."""
    image_indices: Tensor
    """(B,) int64, the images' places in `PairDataset.image_paths`."""
    pair_ids: Tensor
    """(B,) int64."""
    texts: tuple[str, ...]
    """English captions, B of them; empty where a corpus has none."""


def collate_speech(waveforms: Sequence[Tensor]) -> SpeechBatch:
    """Pad recordings with zeros to the longest.

    A recording shorter than one encoder frame counts as `FRAME` samples long, its zeros included,
    so that every row has a valid frame.

    Args:
        waveforms: (L,) float32 each, 16 kHz; at least one.
    """
    lengths = torch.tensor([max(len(waveform), FRAME) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return SpeechBatch(padded, lengths)


def collate_pairs(items: Sequence[PairItem]) -> IndexedPairs:
    """Make a batch of at least one recording."""
    speech = [item.speech for item in items]
    return IndexedPairs(
        speech=collate_speech(speech) if speech[0].ndim == 1 else collate_features(speech),
        indices=torch.tensor([item.index for item in items]),
        image_indices=torch.tensor([item.image_index for item in items]),
        pair_ids=torch.tensor([item.pair_id for item in items]),
        texts=tuple(item.text for item in items),
    )


def unique_images(utterances: Sequence[Utterance]) -> tuple[tuple[str, ...], Tensor]:
    """List the images once each, in order of first appearance.

    Returns:
        Their paths, relative to the manifest's root, and the place of each recording's image among
        them, (N,) int64.
    """
    places: dict[str, int] = {}
    indices = [places.setdefault(utterance.image, len(places)) for utterance in utterances]
    return tuple(places), torch.tensor(indices, dtype=torch.int64)


def approximate_lengths(
    manifest: Manifest, utterances: Sequence[Utterance], max_samples: int | None = None
) -> np.ndarray:
    """Tell recordings' lengths well enough to put like with like, without decoding them.

    A duration that the corpus gives counts; else the size of a WAV file, as if 16-bit, mono and
    16 kHz, which it is in the corpora known; else the file's header. A missing or unreadable file
    counts as empty here, and is reported where it is read.

    Returns:
        (N,) int64, samples at 16 kHz, no more than `max_samples`.
    """
    lengths = np.array([_approximate_length(manifest, u) for u in utterances], dtype=np.int64)
    return lengths if max_samples is None else np.minimum(lengths, max_samples)


def _approximate_length(manifest: Manifest, utterance: Utterance) -> int:
    if utterance.duration > 0:
        return round(utterance.duration * SAMPLE_RATE)
    path = manifest.path(utterance.audio)
    try:
        if path.suffix.lower() == ".wav":
            return max(0, path.stat().st_size - WAV_HEADER) // 2
        return round(audio_info(path).duration * SAMPLE_RATE)
    except (OSError, AudioError):
        return 0


class PairDataset(Dataset[PairItem]):
    """The recordings of a split, read on demand."""

    def __init__(
        self,
        manifest: Manifest,
        utterances: Sequence[Utterance],
        max_samples: int | None = None,
        seed: int = 0,
        on_broken: OnBroken = "raise",
    ) -> None:
        """Prepare to read.

        Args:
            manifest: gives the root of the paths.
            utterances: the split, in the manifest's order.
            max_samples: longer recordings are cropped to this many samples, or the frames of as
                many, at a place that is a function of seed, epoch and index alone; None reads all
                whole.
            seed: not negative.
            on_broken: what to do about a recording that cannot be read. 'raise' names it;
                'replace' gives the next sound one, for training under --skip-broken; 'drop' leaves
                it out of batches, for evaluation, where a stand-in would count twice. Both of the
                latter log it once and list it in `broken`.
        """
        self.image_paths, self._image_indices = unique_images(utterances)
        self.broken: set[str] = set()
        """Recordings that could not be read so far, in any epoch."""
        self._manifest = manifest
        self._utterances = utterances
        self._max_samples = max_samples
        self._seed = seed
        self._epoch = 0
        self._features: FeatureStore | None = None
        self.on_broken = on_broken

    def __len__(self) -> int:
        return len(self._utterances)

    def at(self, epoch: int) -> PairDataset:
        """Give the same recordings with the crops of an epoch; `broken` is shared."""
        dataset = copy.copy(self)
        dataset._epoch = epoch
        return dataset

    def reading(self, features: FeatureStore) -> PairDataset:
        """Give the same recordings as hidden states that were computed before."""
        assert len(features) == len(self), "features of another split"
        dataset = copy.copy(self)
        dataset._features = features
        return dataset

    def __getitem__(self, index: int) -> PairItem:
        """Read a recording.

        Raises:
            AudioError: it cannot be read and `on_broken` is not 'replace', or none of the next
                `PATIENCE` can.
        """
        broken: list[str] = []
        while True:
            try:
                return self._read(index, tuple(broken))
            except AudioError as error:
                if self.on_broken != "replace":
                    raise
                broken.append(str(error))
                if len(broken) >= min(PATIENCE, len(self)):
                    raise AudioError(
                        f"{len(broken)} recordings in a row cannot be read, the last: {error}"
                    ) from error
                index = (index + 1) % len(self)

    def _read(self, index: int, broken: tuple[str, ...]) -> PairItem:
        utterance = self._utterances[index]
        return PairItem(
            speech=self._crop(self._whole(index), index),
            index=index,
            image_index=int(self._image_indices[index]),
            pair_id=utterance.pair_id,
            text=_english(utterance),
            broken=broken,
        )

    def _whole(self, index: int) -> Tensor:
        path = self._manifest.path(self._utterances[index].audio)
        if self._features is None:
            return torch.from_numpy(read_audio(path))
        states = self._features.read(index)
        if states is None:
            raise AudioError(f"'{path}' could not be read when its features were computed")
        return states

    def _crop(self, speech: Tensor, index: int) -> Tensor:
        if self._max_samples is None:
            return speech
        time = 0 if speech.ndim == 1 else 1
        limit = self._max_samples if speech.ndim == 1 else frame_count(self._max_samples)
        if speech.shape[time] <= limit:
            return speech
        random = np.random.default_rng([self._seed, self._epoch, index])
        start = int(random.integers(speech.shape[time] - limit + 1))
        return speech.narrow(time, start, limit)

    def image_path(self, image_index: int) -> Path:
        """Give the place of an image of `image_paths`."""
        return self._manifest.path(self.image_paths[image_index])


def load_batches(
    dataset: PairDataset, batches: Sequence[Sequence[int]], workers: int = 0
) -> Iterator[IndexedPairs]:
    """Read batches in order, ahead of their use where there are workers.

    A batch all of whose recordings are dropped is not given.

    Args:
        dataset: as `PairDataset.at` gives it.
        batches: indices into it.
        workers: processes; 0 reads in this one.

    Raises:
        AudioError: a recording cannot be read, in the words of `read_audio` whichever process met
            it.
    """
    # torch wraps what a worker raises in a traceback; a value carries the message through whole.
    loader: DataLoader[_Read | str] = DataLoader(
        _Batches(dataset, batches),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        # Without one of its own, a loader advances the global generator, and dropout with it.
        generator=torch.Generator(),
    )
    for read in loader:
        if isinstance(read, str):
            raise AudioError(read)
        for message in read.broken:
            if message not in dataset.broken:
                dataset.broken.add(message)
                log.warning("left out: %s", message)
        if read.batch is not None:
            yield read.batch


@dataclass(frozen=True)
class _Read:
    batch: IndexedPairs | None
    broken: tuple[str, ...]


class _Batches(Dataset["_Read | str"]):
    def __init__(self, dataset: PairDataset, batches: Sequence[Sequence[int]]) -> None:
        self._dataset = dataset
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> _Read | str:
        items: list[PairItem] = []
        broken: list[str] = []
        for index in self._batches[number]:
            try:
                items.append(self._dataset[index])
            except AudioError as error:
                if self._dataset.on_broken != "drop":
                    return str(error)
                broken.append(str(error))
        broken += [message for item in items for message in item.broken]
        return _Read(collate_pairs(items) if items else None, tuple(broken))


def _english(utterance: Utterance) -> str:
    if utterance.caption:
        return utterance.caption
    return utterance.text if utterance.language.startswith("en") else ""
