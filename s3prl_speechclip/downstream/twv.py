"""Term-weighted value and normalised cross entropy, as MediaEval's QUESST defines them.

Each pair of a query and a document is a trial, a target where the document holds the query.
Rodriguez-Fuentes and Penagarikano, "MediaEval 2013 Spoken Web Search Task: System Performance
Measures", with the application of QUESST 2014: target prior 0.0008, a miss costs 100, a false alarm
1. Queries that no document holds are left out, as the official scorer does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from ..errors import CorpusError

PRIOR, MISS_COST, FALSE_ALARM_COST = 0.0008, 100.0, 1.0
EFFECTIVE_PRIOR = MISS_COST * PRIOR / (MISS_COST * PRIOR + FALSE_ALARM_COST * (1 - PRIOR))
BETA = (1 - EFFECTIVE_PRIOR) / EFFECTIVE_PRIOR  # false alarm rates count this much, 12.49


@dataclass(frozen=True)
class Detection:
    """How well scores separate targets from the others."""

    max_twv: float
    """At the best threshold for all queries."""
    threshold: float
    """That one; infinite where detecting nothing is best."""
    act_twv: float
    """At the threshold that the system decided by."""
    min_cnxe: float
    """After the best affine calibration of all scores."""


def measure_detection(scores: np.ndarray, targets: np.ndarray, decided: float) -> Detection:
    """Measure a system's scores.

    Args:
        scores: (queries, documents), higher where a document rather holds the query.
        targets: the same shape, True where it does.
        decided: scores above it are detections.

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
    max_twv, threshold = _max_twv(scores, targets)
    return Detection(max_twv, threshold, _twv(scores, targets, decided), _min_cnxe(scores, targets))


def _rates(targets: np.ndarray) -> np.ndarray:
    """Return what a detection of each trial adds to the mean value over queries."""
    hits = targets / targets.sum(1, keepdims=True)
    alarms = ~targets / (~targets).sum(1, keepdims=True)
    return (hits - BETA * alarms) / len(targets)


def _twv(scores: np.ndarray, targets: np.ndarray, threshold: float) -> float:
    """TWV = 1 - mean over queries of (P_miss + beta P_fa)."""
    return float(_rates(targets)[scores > threshold].sum())


def _max_twv(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked = scores.ravel()[order]
    value = np.cumsum(_rates(targets).ravel()[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # trials of one score stand or fall together
    best = int(np.argmax(np.where(last, value, -np.inf)))
    if value[best] <= 0:
        return 0.0, float("inf")
    return float(value[best]), float(ranked[best])


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
