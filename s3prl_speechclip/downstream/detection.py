"""The formulas of query by example: alignment costs, and how well they detect queries.

s3prl aligns each pair by itself with dtw-python. Its alignment is asymmetric: a query frame is used
once, and between two of them a document goes on by 0, 1 or 2 frames. So a row of costs follows from
the row before alone, and all documents' rows are computed together.

The measures are those of MediaEval's QUESST. Each pair of a query and a document is a trial, a
target where the document holds the query. Rodriguez-Fuentes and Penagarikano, "MediaEval 2013
Spoken Web Search Task: System Performance Measures", with the application of QUESST 2014: target
prior 0.0008, a miss costs 100, a false alarm 1. Queries that no document holds are left out, as the
official scorer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, CorpusError, unknown_name

CHUNK = 40_000  # padded document frames that are aligned together
PRIOR, MISS_COST, FALSE_ALARM_COST = 0.0008, 100.0, 1.0
EFFECTIVE_PRIOR = MISS_COST * PRIOR / (MISS_COST * PRIOR + FALSE_ALARM_COST * (1 - PRIOR))
BETA = (1 - EFFECTIVE_PRIOR) / EFFECTIVE_PRIOR  # false alarm rates count this much, 12.49
Distance = Callable[[Tensor, Tensor], Tensor]


def _cosine(queries: Tensor, frames: Tensor) -> Tensor:
    return 1.0 - F.normalize(queries, dim=-1, eps=1e-12) @ F.normalize(frames, dim=-1, eps=1e-12).T


DISTANCES: Mapping[str, Distance] = {
    "cosine": _cosine,
    "cosine_exp": lambda q, d: torch.exp(_cosine(q, d)) - 1.0,
    "cosine_neg_log": lambda q, d: -torch.log((1.0 - _cosine(q, d)).clamp_min(1e-12)),
    "euclidean": lambda q, d: torch.cdist(q, d, compute_mode="donot_use_mm_for_euclid_dist"),
    "cityblock": lambda q, d: torch.cdist(q, d, p=1.0),
}
"""Between the rows of (n, D) and of (m, D), (n, m); by s3prl's names."""


def find_distance(name: str) -> Distance:
    """Return a distance by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in DISTANCES:
        raise ConfigError(unknown_name("distance (dtwrc.dist_method)", name, DISTANCES))
    return DISTANCES[name]


def match_costs(
    queries: Sequence[Tensor], documents: Sequence[Tensor], distance: Distance, minmax: bool
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
    """Compute the normalised cost of the best subsequence, (N,).

    Args:
        cost: distances of query frames to document frames, (n, N, m).
        beyond: True past a document's end, (N, m).
        minmax: see `match_costs`.
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
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[place] > CHUNK:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def measure_detection(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Measure how well scores separate targets from the others.

    Args:
        scores: (queries, documents), higher where a document rather holds the query.
        targets: the same shape, True where it does.

    Returns:
        Maximum TWV, at the best threshold for all queries; and minimum C_nxe, after the best affine
        calibration of all scores.

    Raises:
        CorpusError: no query has both documents that hold it and others.
    """
    count = targets.sum(1)
    usable = (count > 0) & (count < targets.shape[1])
    if not usable.any():
        raise CorpusError(
            "no query is in some documents and not in others; check the corpus's ground truth"
        )
    scores, targets = scores[usable].astype(float), targets[usable]
    return _max_twv(scores, targets), _min_cnxe(scores, targets)


def _max_twv(scores: np.ndarray, targets: np.ndarray) -> float:
    """TWV = 1 - mean over queries of (P_miss + beta P_fa), its maximum over thresholds."""
    hits = targets / targets.sum(1, keepdims=True)
    alarms = ~targets / (~targets).sum(1, keepdims=True)
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked = scores.ravel()[order]
    value = np.cumsum(((hits - BETA * alarms) / len(targets)).ravel()[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # trials of one score stand or fall together
    return max(0.0, float(value[last].max()))


def _min_cnxe(scores: np.ndarray, targets: np.ndarray) -> float:
    """C_nxe of gain x score + offset as log likelihood ratios, at the gain and offset that it is
    lowest for; relative to the entropy of the prior alone."""
    # Of like size for the optimiser; an affine map is undone by the calibration.
    scaled = (scores - scores.mean()) / max(float(scores.std()), 1e-9)
    held, others = scaled[targets], scaled[~targets]
    odds = np.log(EFFECTIVE_PRIOR / (1 - EFFECTIVE_PRIOR))

    def entropy(calibration: np.ndarray) -> float:
        gain, offset = calibration
        missed = np.logaddexp(0, -(gain * held + offset + odds)).mean()
        alarmed = np.logaddexp(0, gain * others + offset + odds).mean()
        return float(EFFECTIVE_PRIOR * missed + (1 - EFFECTIVE_PRIOR) * alarmed)

    prior = entropy(np.zeros(2))
    found = minimize(entropy, np.zeros(2), method="BFGS", options={"gtol": 1e-8})
    return float(min(found.fun, prior) / prior)
