"""Between the processes of a distributed run."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

from ..model.embedding import SpeechEmbeddings, in_order
from ..pretrain.state import random_state


def gather(rows: Tensor) -> Tensor:
    """Put the processes' rows together in the order of the whole batch, with gradient.

    Process r of W holds rows r, r + W, r + 2 W, ... of the whole batch.

    Args:
        rows: (B, ...), the same shape in every process.

    Returns:
        (W B, ...); `rows` itself where there is one process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    world, rank = dist.get_world_size(), dist.get_rank()
    whole = rows.new_zeros(len(rows) * world, *rows.shape[1:])
    mine = torch.arange(len(rows), device=rows.device) * world + rank
    whole = whole.index_copy(0, mine, rows)
    if rows.requires_grad:
        gathered: Tensor = all_reduce(whole)
        return gathered
    dist.all_reduce(whole)
    return whole


def from_first_process(module: nn.Module) -> None:
    """Give every process the first one's parameters."""
    if dist.is_available() and dist.is_initialized():
        for parameter in module.parameters():
            dist.broadcast(parameter.data, src=0)


def gather_embeddings(mine: SpeechEmbeddings, fabric: Fabric) -> SpeechEmbeddings:
    """Bring the processes' shares of a split together, in the order of the split."""
    if fabric.world_size == 1:
        return mine
    parts: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(parts, mine)
    names = next(part.by_name for part in parts if part.by_name)
    return in_order(
        {n: torch.cat([part.by_name[n] for part in parts if part.by_name]) for n in names},
        torch.cat([part.pair_ids for part in parts]),
        torch.cat([part.indices for part in parts]),
    )


def gather_random_states(fabric: Fabric) -> dict[str, Tensor]:
    """Give the random state of every process, by `process/device`."""
    parts: list[Any] = [random_state()]
    if fabric.world_size > 1:
        parts = [None] * fabric.world_size
        dist.all_gather_object(parts, random_state())
    return {f"{rank}/{n}": v for rank, part in enumerate(parts) for n, v in part.items()}
