"""Draw batches: recordings of similar lengths, in an order that repeats.

Orders are pure functions of (seed, epoch), so that a run resumes anywhere without a replay, and of
nothing about the machines, so that two processes see between them what one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

POOL = 50  # batches whose recordings are sorted by length together


def check_batch_size(batch_size: int, recordings: int, processes: int = 1) -> None:
    """Check that a training split has a batch, which its processes share.

    Raises:
        ConfigError: it has not, or the batch cannot be shared out evenly.
    """
    if batch_size < 1:
        raise ConfigError(f"data.batch_size must be at least 1, found {batch_size}")
    if batch_size > recordings:
        raise ConfigError(
            f"data.batch_size is {batch_size} but the training split has {recordings} recordings; "
            f"lower it to {recordings} or less, such as -o data.batch_size={(recordings + 1) // 2}"
        )
    if batch_size % processes:
        raise ConfigError(
            f"data.batch_size must be a multiple of the {processes} processes, found {batch_size}"
        )


class BucketBatchSampler:
    """Shuffled batches of recordings of similar lengths, for training.

    An epoch's order: shuffle all, and leave out those that fill no batch; sort each pool of `POOL`
    batches by length and cut it into batches; shuffle the batches.

    Args:
        lengths: (N,) lengths of the recordings, in any unit.
        batch_size: number of recordings over all processes.
        seed: seed of the order, not negative.
        rank: number of this process; its share of each batch is every `world_size`-th recording.
        world_size: number of processes.

    Raises:
        ConfigError: a batch is larger than the split, or cannot be shared out evenly.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"the seed must not be negative, found {seed}")
        check_batch_size(batch_size, len(lengths), world_size)
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._share = slice(rank, None, world_size)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._lengths) // self._batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[int]]:
        """Yield this process's share of an epoch's batches, without the first `start`."""
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._lengths))[: len(self) * self._batch_size]
        pools = np.arange(len(order)) // (POOL * self._batch_size)
        order = order[np.lexsort((self._lengths[order], pools))]
        batches = order.reshape(len(self), self._batch_size)
        for place in random.permutation(len(self))[start:]:
            yield batches[place, self._share].tolist()


def evaluation_batches(lengths: Sequence[int] | np.ndarray, batch_size: int) -> list[list[int]]:
    """Split all recordings, of (N,) lengths, into batches with little padding.

    The longest come first so that memory runs out at once or not at all; the last batch may hold
    fewer. `in_split_order` restores the order.
    """
    if batch_size < 1:
        raise ConfigError(f"an evaluation batch must hold at least 1 recording, found {batch_size}")
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def in_split_order(rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, ...) results of all batches by rising place in the split, and these places.

    `indices` are (N,) int64 places of the rows; dropped recordings are absent.
    """
    places, order = torch.sort(indices)
    return rows[order.to(rows.device)], places
