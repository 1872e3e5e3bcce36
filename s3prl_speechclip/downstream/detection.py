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

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, CorpusError, unknown_name

QUERIES = 8  # whose distances are one product: 1.25 times as fast as one at a time
CHUNK = {"cpu": 10_000, "cuda": 1_000_000}
"""Padded document frames that are aligned together: what fits a core's cache, or fills a card."""
PRIOR, MISS_COST, FALSE_ALARM_COST = 0.0008, 100.0, 1.0
EFFECTIVE_PRIOR = MISS_COST * PRIOR / (MISS_COST * PRIOR + FALSE_ALARM_COST * (1 - PRIOR))
BETA = (1 - EFFECTIVE_PRIOR) / EFFECTIVE_PRIOR  # false alarm rates count this much, 12.49


class Distance(NamedTuple):
    """A distance between frames, by matrix products where it has them."""

    prepare: Callable[[Tensor], Tensor]
    """Applied once to all frames, (n, D)."""
    between: Callable[[Tensor, Tensor], Tensor]
    """From prepared frames, (n, D) and (m, D), to (n, m)."""


def _unit(frames: Tensor) -> Tensor:
    return F.normalize(frames, dim=-1, eps=1e-12)


def _as_they_are(frames: Tensor) -> Tensor:
    return frames


def _cosine(queries: Tensor, frames: Tensor) -> Tensor:
    return (queries @ frames.T).neg_().add_(1.0)


DISTANCES: Mapping[str, Distance] = {
    "cosine": Distance(_unit, _cosine),
    "cosine_exp": Distance(_unit, lambda q, d: _cosine(q, d).exp_().sub_(1.0)),
    "cosine_neg_log": Distance(_unit, lambda q, d: -torch.log((q @ d.T).clamp_min_(1e-12))),
    "euclidean": Distance(
        _as_they_are, lambda q, d: torch.cdist(q, d, compute_mode="donot_use_mm_for_euclid_dist")
    ),
    "cityblock": Distance(_as_they_are, lambda q, d: torch.cdist(q, d, p=1.0)),
}
"""By s3prl's names."""


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
    queries = [distance.prepare(query) for query in queries]
    for places in _chunks(documents):
        # Of like length; beyond a document's end, its last frame again, which leaves the extremes.
        lengths = torch.tensor([len(documents[place]) for place in places])
        last = torch.arange(int(lengths.max())).expand(len(places), -1)
        index = lengths.cumsum(0)[:, None] - (lengths[:, None] - last).clamp_min(1)
        frames = distance.prepare(torch.cat([documents[place] for place in places]))
        frames = frames[index.flatten().to(frames.device)]
        beyond = (last >= lengths[:, None]).to(frames.device)
        for first in range(0, len(queries), QUERIES):
            group = queries[first : first + QUERIES]
            distances = distance.between(torch.cat(group), frames).unflatten(1, beyond.shape)
            for row, cost in enumerate(distances.split([len(query) for query in group]), first):
                costs[row, places] = _align(cost, beyond, minmax).float().cpu()
    return costs


def _align(cost: Tensor, beyond: Tensor, minmax: bool) -> Tensor:
    """Compute the normalised cost of the best subsequence, (N,).

    Args:
        cost: distances of query frames to document frames, (n, N, m); overwritten.
        beyond: True past a document's end, (N, m).
        minmax: see `match_costs`.
    """
    if minmax:
        low, high = cost.amin(-1, keepdim=True), cost.amax(-1, keepdim=True)
        cost.sub_(low).div_((high - low).clamp_min_(1e-9))
    # Two columns before a document's first frame, from which no path comes.
    padded = F.pad(cost[0], (2, 0), value=math.inf)
    total, one_back, two_back = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    best = torch.empty_like(cost[0])
    for row in cost[1:]:
        torch.minimum(one_back, two_back, out=best)
        torch.minimum(best, total, out=best)
        torch.add(best, row, out=total)
    # Paths go forward only, so that what lies beyond the end changed nothing before it.
    return total.masked_fill(beyond, math.inf).amin(-1) / len(cost)


def _chunks(documents: Sequence[Tensor]) -> Iterator[list[int]]:
    """Group documents of like length, so that little is padded."""
    group: list[int] = []
    for place in sorted(range(len(documents)), key=lambda place: len(documents[place])):
        padded = (len(group) + 1) * len(documents[place])
        if group and padded > CHUNK[documents[place].device.type]:
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
    scores, targets = _usable(scores, targets)
    return _max_twv(scores, targets)[0], _min_cnxe(scores, targets)


def twv_error(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the standard error of maximum TWV over queries, at its threshold.

    Args:
        scores, targets: as for `measure_detection`.
    """
    scores, targets = _usable(scores, targets)
    hits, alarms = _rates(targets)
    accepted = scores >= _max_twv(scores, targets)[1]
    values = ((hits - BETA * alarms) * accepted).sum(1)
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _usable(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of queries that are in some documents and not in others."""
    count = targets.sum(1)
    usable = (count > 0) & (count < targets.shape[1])
    if not usable.any():
        raise CorpusError(
            "no query is in some documents and not in others; check the corpus's ground truth"
        )
    return scores[usable].astype(float), targets[usable]


def _rates(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each trial's acceptance adds to its query's rates of hits and of false alarms."""
    return targets / targets.sum(1, keepdims=True), ~targets / (~targets).sum(1, keepdims=True)


def _max_twv(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return maximum TWV, 1 - mean over queries of (P_miss + beta P_fa), and its threshold."""
    hits, alarms = _rates(targets)
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked = scores.ravel()[order]
    value = np.cumsum(((hits - BETA * alarms) / len(targets)).ravel()[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # trials of one score stand or fall together
    best = int(value[last].argmax())
    found = float(value[last][best])
    return (found, float(ranked[last][best])) if found > 0 else (0.0, math.inf)


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
