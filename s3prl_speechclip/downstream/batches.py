"""Batches of an expert's data loaders, as a function of seed, epoch and position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from ..data.workers import call_ahead
from ..errors import ConfigError, CorpusError
from ..runtime.randomness import (
    EVALUATION,
    ITEM,
    ORDER,
    derived_seed,
    drawn_numbers,
    own_randomness,
)
from ..structures import HOP
from .probe import one_line
from .recordings import Naming, add_converted, naming, take_converted

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


class Items:
    """The items of a split, as its expert's data set returns them.

    With stand-ins for recordings, an item that draws no random numbers is made once. One that does,
    such as a random crop, is made anew for each seed, of which training has a few only.

    Args:
        loader: data loader of the split.
        what: the split, for messages.
        names: numbers of the recordings; None: recordings are read.
        draws: number of seeds; None: each item has a seed of its own, as in evaluation.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        what: str,
        names: Naming | None = None,
        draws: int | None = None,
    ) -> None:
        self.loader = loader
        self.what = what
        self._data: Any = loader.dataset
        self._names = names
        self._draws = draws
        self._fixed: dict[int, Any] = {}
        self._drawn: dict[tuple[int, int], Any] = {}

    def read(self, draws: Sequence[Sequence[Draw]], workers: int | None = 0) -> Iterator[Batch]:
        """Read chosen batches.

        Args:
            draws: items of each batch.
            workers: processes that read; None: the loader's own number.

        Raises:
            CorpusError: a recording cannot be read, is shorter than half a frame, or holds no
                numbers.
        """
        workers = self.loader.num_workers if workers is None else workers
        for batch, converted in call_ahead(self._read, draws, workers):
            add_converted(converted)
            yield batch

    def each(self) -> list[list[Draw]]:
        """Return a draw of each item in training."""
        return [[(index, (ITEM, 0))] for index in range(len(self._data))]

    def others(self) -> list[list[Draw]]:
        """Return the other draws in training of the items that draw random numbers."""
        drawn = sorted({index for index, _ in self._drawn}) if self._draws else []
        return [[(index, (ITEM, n))] for index in drawn for n in range(1, self._draws or 1)]

    def _read(self, draw: Sequence[Draw]) -> tuple[Batch, set[str]]:
        """Read a batch, in any process; returns it, and the recordings that were converted."""
        place = ""
        try:
            with naming(self._names):
                items = []
                for index, purpose in draw:
                    place = f"item {index}: "
                    items.append(self._item(index, purpose))
                place = ""
                wavs, *others = self.loader.collate_fn(items)  # s3prl's ctc reads here
        except Exception as error:
            raise CorpusError(
                f"the {self.what} has a recording that cannot be used: {place}"
                f"{type(error).__name__}: {one_line(error)[:300]}"
            ) from error
        arrays = [np.asarray(wav, dtype=np.float32).reshape(-1) for wav in wavs]
        for array in arrays:
            number = None if self._names is None else self._names.number(array)
            if self._names and (number is None or not self._names.is_whole(array, number)):
                raise ConfigError(
                    f"features of the {self.what} cannot be stored: s3prl's data set cuts or "
                    "copies recordings; give --cache off"
                )
            # Stand-ins are not searched for numbers; their recordings were.
            if len(array) < SHORTEST or (self._names is None and not np.isfinite(array).all()):
                raise CorpusError(
                    f"the {self.what} has a recording of {len(array)} samples among items "
                    f"{[index for index, _ in draw][:8]}; expected {SHORTEST} or more, each a "
                    "number; restore or remove it"
                )
        return Batch(arrays, others), take_converted()

    def _item(self, index: int, purpose: tuple[int, ...]) -> Any:
        if index in self._fixed:
            return self._fixed[index]
        seed = derived_seed(*purpose)
        if self._names is None:
            with own_randomness(seed, cuda=False):
                return self._data[index]
        if self._draws is not None:
            number = purpose[1] if len(purpose) == 2 else seed % self._draws
            seed = derived_seed(ITEM, number)
        if (index, seed) not in self._drawn:
            item, random = self._make(index, seed, self._names)
            if not random:
                self._fixed[index] = item
                return item
            self._drawn[index, seed] = item
        return self._drawn[index, seed]

    def _make(self, index: int, seed: int, names: Naming) -> tuple[Any, bool]:
        """Make an item of stand-ins; returns it, and whether it drew random numbers."""
        with own_randomness(seed, cuda=False):
            before = drawn_numbers()
            item = self._data[index]
            random = drawn_numbers() != before
        if isinstance(item, tuple) and isinstance(item[0], (np.ndarray, Tensor)):
            wav = np.asarray(item[0])
            number = names.number(wav)
            if random or number is None or not names.is_whole(wav, number):
                maker = f"{type(self._data).__module__} {seed if random else ''}"
                samples = partial(self._samples, index, seed)
                if number is None:  # computed, maybe from stand-ins, whose values mean nothing
                    wav = samples()
                return (names.add_part(wav, number, maker, samples), *item[1:]), random
        return item, random

    def _samples(self, index: int, seed: int) -> np.ndarray:
        with naming(None), own_randomness(seed, cuda=False):
            return np.asarray(self._data[index][0], dtype=np.float32).reshape(-1)


def training_batches(
    items: Items,
    seed: int,
    position: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Iterate over a training split without end, from anywhere in it.

    An epoch's order is what the expert's own sampler draws under a seed of that epoch; what
    reading a recording draws, such as a crop, follows from the recording's place in that order.
    Neither depends on the number of processes that read or train.

    Args:
        items: items of the split.
        seed: not negative.
        position: number of batches before the first, over all epochs.
        rank: this process, which takes every `world_size`-th recording of each batch.
        world_size: processes.
        workers: processes that read; None: the loader's own number.

    Raises:
        CorpusError: the split gives no batch, or a recording cannot be used.
    """
    for epoch in count():
        order = _epoch_order(items, derived_seed(ORDER, seed, epoch))
        draws, weights = [], []
        for number, indices in enumerate(order[position:], position):
            batch = [(i, (ITEM, seed, epoch, number, row)) for row, i in enumerate(indices)]
            rows, weight = _share(len(batch), rank, world_size)
            # An item of its own may be a bucket of recordings, which is shared out once it is read.
            draws.append([batch[row] for row in rows] if len(batch) > 1 else batch)
            weights.append(weight if len(batch) > 1 else None)
        position = max(0, position - len(order))
        for got, known in zip(items.read(draws, workers), weights, strict=True):
            if known is not None:
                yield replace(got, weight=known)
            else:
                yield _split(got, rank, world_size) if world_size > 1 else got


def evaluation_draws(loader: DataLoader[Any], seed: int) -> list[list[Draw]]:
    """Return the batches of a split, in the order that its loader draws, and seeds of its items."""
    assert loader.batch_sampler is not None
    return [
        [(i, (EVALUATION, seed, number, row)) for row, i in enumerate(indices)]
        for number, indices in enumerate(loader.batch_sampler)
    ]


def evaluation_batches(
    loader: DataLoader[Any], what: str, seed: int, workers: int | None = None
) -> Iterator[Batch]:
    """Read a split once, in the order that its loader draws.

    Raises:
        CorpusError: a recording cannot be used.
    """
    return Items(loader, what).read(evaluation_draws(loader, seed), workers)


def _epoch_order(items: Items, seed: int) -> list[list[int]]:
    """Draw an epoch's batches, over all processes."""
    batches: Any = items.loader.batch_sampler
    if batches is None:
        raise CorpusError(f"the {items.what} gives no batches of recordings, which are needed")
    if type(batches) is BatchSampler:
        sampler = _of_all_processes(items.loader)
        batches = BatchSampler(sampler, batches.batch_size, batches.drop_last)
    with own_randomness(seed):
        order = [list(batch) for batch in batches]
    if not order:
        raise CorpusError(
            f"the {items.what} gives no batch: it has fewer recordings than a batch; lower the "
            "batch size"
        )
    return order


def _share(size: int, rank: int, world_size: int) -> tuple[list[int], float]:
    """Return a process's rows of a batch, the first where none is left, and their weight."""
    rows = list(range(size))[rank::world_size]
    return rows or [0], len(rows) * world_size / size


def _split(batch: Batch, rank: int, world_size: int) -> Batch:
    """Return a process's share of a batch that was read whole."""
    size = len(batch.wavs)
    rows, weight = _share(size, rank, world_size)
    others = [
        # An expert's entry may be one for the whole batch.
        [other[row] for row in rows] if hasattr(other, "__len__") and len(other) == size else other
        for other in batch.others
    ]
    return Batch([batch.wavs[row] for row in rows], others, weight)


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
