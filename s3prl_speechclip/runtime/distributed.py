"""Exchange between the processes of a distributed run, and the signals that end it.

With one process all return at once.
"""

from __future__ import annotations

import signal
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

Value = TypeVar("Value")


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(rows: Tensor) -> Tensor:
    """Put the processes' rows together in the order of the whole batch, with gradient.

    Process r of W holds rows r, r + W, r + 2 W, ... of the whole batch.

    Args:
        rows: (B, ...), the same shape in every process.

    Returns:
        (W B, ...); `rows` itself where there is one process.
    """
    world = world_size()
    if world == 1:
        return rows
    whole = rows.new_zeros(len(rows) * world, *rows.shape[1:])
    own = torch.arange(len(rows), device=rows.device) * world + dist.get_rank()
    whole = whole.index_copy(0, own, rows)
    if rows.requires_grad:
        gathered: Tensor = all_reduce(whole)
        return gathered
    dist.all_reduce(whole)
    return whole


def own_rows() -> slice:
    """Return this process's rows of what `gather` puts together."""
    return slice(dist.get_rank() if world_size() > 1 else 0, None, world_size())


def all_true(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is true in every process; the same in all, which must all call it."""
    if world_size() == 1:
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MIN)
    return bool(shared.item())


def gather_objects(value: Value) -> list[Value]:
    """Return every process's value, by rank, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Value] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_parameters(module: nn.Module) -> None:
    """Copy the first process's parameters to the others."""
    if world_size() > 1:
        for parameter in module.parameters():
            dist.broadcast(parameter.data, src=0)


class StopSignal:
    """Catch SIGTERM and SIGINT inside a `with` block, so that a loop can stop at a step.

    with StopSignal(fabric) as stop:
        while step < total_steps and not stop.requested():
            ...
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._caught = False

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._previous = {number: signal.signal(number, self._catch) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Return whether any process caught a signal; the same in all, which must all call it."""
        return not all_true(not self._caught, self._fabric.device)

    def _catch(self, *_: object) -> None:
        self._caught = True
