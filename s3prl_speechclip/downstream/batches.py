"""Batches of an expert's data loaders, as a function of seed, epoch and position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from ..errors import CorpusError
from ..runtime.randomness import EVALUATION, ITEM, ORDER, derived_seed, own_randomness
from ..structures import HOP
from .experts import one_line
from .mono import add_converted, take_converted

SHORTEST = HOP // 2  # samples; s3prl rounds frames, and what rounds to none has no features

Draw = tuple[int, tuple[int, ...]]
"""An index of a data set, and the numbers that the seed of reading it is derived from."""


@dataclass(frozen=True)
class Batch:
    """Recordings with what their expert reads beside them."""

    wavs: list[np.ndarray]
    """1-D float32, 16 kHz."""
    others: list[Any]
    """The expert's own: labels, names; one entry a recording in each."""
    weight: float = 1.0
    """Weight of this process' mean loss in the mean over processes."""


@dataclass(frozen=True)
class _Unreadable:
    reason: str


class TrainingBatches:
    """A training split without end, from anywhere in it.

    An epoch's order is what the expert's own sampler draws under a seed of that epoch; what
    reading a recording draws, such as a crop, follows from the recording's place in that order.
    Neither depends on the number of processes that read or train.

    Args:
        loader: function of an epoch that returns its data loader.
        what: the split, for messages.
        seed: not negative.
        rank: this process, which takes every `world_size`-th recording of each batch.
        world_size: processes.
        workers: processes that read; None: the loader's own number.
    """

    def __init__(
        self,
        loader: Callable[[int], DataLoader[Any]],
        what: str,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int | None = None,
    ) -> None:
        self._loader = loader
        self._what = what
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._workers = workers

    def start_at(self, position: int) -> Iterator[Batch]:
        """Iterate over batches, without end.

        Args:
            position: number of batches before the first, over all epochs.

        Raises:
            CorpusError: the split gives no batch, or a recording cannot be used.
        """
        epoch = 0
        while True:
            loader = self._loader(epoch)
            order = self._order(loader, epoch)
            if not order:
                raise CorpusError(
                    f"the {self._what} gives no batch: it has fewer recordings than a batch; "
                    "lower the batch size"
                )
            if position < len(order):
                yield from self._read(loader, order[position:], (epoch, position))
            position = max(0, position - len(order))
            epoch += 1

    def _order(self, loader: DataLoader[Any], epoch: int) -> list[list[int]]:
        """Draw an epoch's batches, over all processes."""
        batches: Any = loader.batch_sampler
        if type(batches) is BatchSampler:
            sampler = _of_all_processes(loader)
            batches = BatchSampler(sampler, batches.batch_size, batches.drop_last)
        if batches is None:
            raise CorpusError(f"the {self._what} gives no batches of recordings, which are needed")
        with own_randomness(derived_seed(ORDER, self._seed, epoch)):
            return [list(batch) for batch in batches]

    def _read(
        self, loader: DataLoader[Any], order: Sequence[Sequence[int]], at: tuple[int, int]
    ) -> Iterator[Batch]:
        epoch, first = at
        draws, weights = [], []
        for number, indices in enumerate(order, first):
            batch = [(i, (ITEM, self._seed, epoch, number, row)) for row, i in enumerate(indices)]
            # An item of its own may be a bucket of recordings, which is shared out once it is read.
            share = self._share(len(batch)) if len(batch) > 1 else [0]
            draws.append([batch[row] for row in share])
            weights.append(self._weight(len(batch)) if len(batch) > 1 else None)
        workers = loader.num_workers if self._workers is None else self._workers
        read = read_batches(loader, draws, workers, self._what)
        for got, weight in zip(read, weights, strict=True):
            yield self._split(got) if weight is None else Batch(got.wavs, got.others, weight)

    def _split(self, batch: Batch) -> Batch:
        if self._world_size == 1:
            return batch
        count = len(batch.wavs)
        share = self._share(count)
        others = [
            [other[row] for row in share] if _is_of_each(other, count) else other
            for other in batch.others
        ]
        return Batch([batch.wavs[row] for row in share], others, self._weight(count))

    def _share(self, count: int) -> list[int]:
        """Return this process' rows of a batch; where none is left, the first, at no weight."""
        return list(range(count))[self._rank :: self._world_size] or [0]

    def _weight(self, count: int) -> float:
        own = len(range(count)[self._rank :: self._world_size])
        return own * self._world_size / count


def evaluation_batches(
    loader: DataLoader[Any], what: str, seed: int, workers: int | None = None
) -> Iterator[Batch]:
    """Read a split once, in the order that its loader draws under a seed.

    Raises:
        CorpusError: a recording cannot be used.
    """
    assert loader.batch_sampler is not None
    order = [list(batch) for batch in loader.batch_sampler]
    draws = [
        [(i, (EVALUATION, seed, number, row)) for row, i in enumerate(indices)]
        for number, indices in enumerate(order)
    ]
    return read_batches(loader, draws, loader.num_workers if workers is None else workers, what)


def read_batches(
    loader: DataLoader[Any], draws: Sequence[Sequence[Draw]], workers: int, what: str
) -> Iterator[Batch]:
    """Read chosen batches with a loader's data set and collation.

    Raises:
        CorpusError: a recording cannot be read, is shorter than half a frame or holds no numbers.
    """
    reader = DataLoader(
        _Drawn(loader.dataset),
        batch_sampler=draws,  # type: ignore[arg-type]
        collate_fn=partial(_collate, loader.collate_fn),
        num_workers=workers,
    )
    for draw, (collated, converted) in zip(draws, reader, strict=True):
        add_converted(converted)
        if isinstance(collated, _Unreadable):
            raise CorpusError(f"the {what} has a recording that cannot be used: {collated.reason}")
        wavs, *others = collated
        arrays = [np.asarray(wav, dtype=np.float32).reshape(-1) for wav in wavs]
        for array in arrays:
            if len(array) < SHORTEST or not np.isfinite(array).all():
                raise CorpusError(
                    f"the {what} has a recording of {len(array)} samples among items "
                    f"{[index for index, _ in draw][:8]}; expected {SHORTEST} or more, each a "
                    "number; restore or remove it"
                )
        yield Batch(arrays, others)


class _Drawn(Dataset[Any]):
    """A data set whose random numbers follow from the item."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self._inner = inner

    def __getitem__(self, draw: Draw) -> Any:
        index, purpose = draw
        with own_randomness(derived_seed(*purpose), cuda=False):
            try:
                return self._inner[index]
            except Exception as error:
                # Carried past the worker, whose own traceback would fill the screen.
                return _Unreadable(f"item {index}: {_describe(error)}")


def _collate(inner: Callable[[Any], Any], items: list[Any]) -> tuple[Any, set[str]]:
    """Collate items in the process that read them, with the recordings that it converted."""
    collated: Any = next((item for item in items if isinstance(item, _Unreadable)), None)
    if collated is None:
        try:
            collated = list(inner(items))  # s3prl's ctc reads its recordings here
        except Exception as error:
            collated = _Unreadable(_describe(error))
    return collated, take_converted()


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)[:300]}"


def _is_of_each(other: Any, count: int) -> bool:
    """Return whether an expert's entry has one member a recording."""
    return hasattr(other, "__len__") and len(other) == count


def _of_all_processes(loader: DataLoader[Any]) -> Sampler[int]:
    """Return a loader's sampler as it would be in a single process."""
    sampler: Any = loader.sampler
    if not isinstance(sampler, DistributedSampler):
        return sampler
    inner: Sampler[int] | None = getattr(sampler, "sampler", None)
    if inner is not None:
        return inner
    data: Any = loader.dataset
    return RandomSampler(data) if sampler.shuffle else SequentialSampler(data)
