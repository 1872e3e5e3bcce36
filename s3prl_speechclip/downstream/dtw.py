"""Subsequence dynamic time warping of a query over many documents at once.

s3prl's query by example aligns each pair by itself with dtw-python. Its alignment is asymmetric: a
query frame is used once, and between two of them a document goes on by 0, 1 or 2 frames. So a row
of costs follows from the row before alone, and all documents' rows are computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, unknown_name

CHUNK = 40_000  # padded document frames that are aligned together


def _cosine(queries: Tensor, frames: Tensor) -> Tensor:
    return 1.0 - F.normalize(queries, dim=-1, eps=1e-12) @ F.normalize(frames, dim=-1, eps=1e-12).T


def _cosine_exp(queries: Tensor, frames: Tensor) -> Tensor:
    return torch.exp(_cosine(queries, frames)) - 1.0


def _cosine_neg_log(queries: Tensor, frames: Tensor) -> Tensor:
    return -torch.log((1.0 - _cosine(queries, frames)).clamp_min(1e-12))


def _euclidean(queries: Tensor, frames: Tensor) -> Tensor:
    return torch.cdist(queries, frames, compute_mode="donot_use_mm_for_euclid_dist")


def _cityblock(queries: Tensor, frames: Tensor) -> Tensor:
    return torch.cdist(queries, frames, p=1.0)


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "cosine_exp": _cosine_exp,
    "cosine_neg_log": _cosine_neg_log,
    "euclidean": _euclidean,
    "cityblock": _cityblock,
}
"""Between the rows of (n, D) and of (m, D), (n, m); by s3prl's names."""


def find_distance(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a distance by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in DISTANCES:
        raise ConfigError(unknown_name("distance (dtwrc.dist_method)", name, DISTANCES))
    return DISTANCES[name]


def match_costs(
    queries: Sequence[Tensor],
    documents: Sequence[Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    minmax: bool,
) -> Tensor:
    """Compute the cost of each query's best place in each document, per query frame.

    Args:
        queries: (n, D) each.
        documents: (m, D) each, on the same device.
        distance: between frames, see `DISTANCES`.
        minmax: first bring the distances of each query frame to a document to [0, 1].

    Returns:
        (queries, documents), on the CPU.
    """
    costs = torch.empty(len(queries), len(documents))
    for places in _chunks([len(document) for document in documents]):
        chosen = [documents[place] for place in places]
        frames = torch.cat(chosen)
        lengths = torch.tensor([len(document) for document in chosen], device=frames.device)
        # Where each document's frames lie in `frames`; beyond its end, its last frame again.
        steps = torch.arange(int(lengths.max()), device=frames.device)
        starts = lengths.cumsum(0) - lengths
        index = starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)
        beyond = steps >= lengths[:, None]
        for row, query in enumerate(queries):
            cost = distance(query, frames)[:, index]
            costs[row, places] = _align(cost, beyond, minmax).float().cpu()
    return costs


def _align(cost: Tensor, beyond: Tensor, minmax: bool) -> Tensor:
    """Compute the normalised cost of the best subsequence.

    Args:
        cost: distances of query frames to document frames, (n, N, m).
        beyond: True past a document's end, (N, m).
        minmax: see `match_costs`.

    Returns:
        (N,).
    """
    if minmax:
        # What lies beyond the end repeats the last frame, and changes neither extreme.
        lowest = cost.amin(-1, keepdim=True)
        cost = (cost - lowest) / (cost.amax(-1, keepdim=True) - lowest).clamp_min(1e-9)
    cost = cost.masked_fill(beyond, float("inf"))
    total = cost[0]
    for row in cost[1:]:
        before = F.pad(total, (2, 0), value=float("inf"))
        total = row + torch.minimum(total, torch.minimum(before[:, 1:-1], before[:, :-2]))
    return total.amin(-1) / len(cost)


def _chunks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group documents of like length, so that little is padded."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if group and (len(group) + 1) * lengths[place] > CHUNK:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
