"""How well a query finds the recordings that say a word, and where: pure functions over scores.

The task of Kamper, Shakhnarovich and Livescu ("Semantic keyword spotting by learning from images
and speech", arXiv 1710.01949) and of Olaleye, Oneata and Kamper ("Keyword localisation in
untranscribed speech using visually grounded speech models", arXiv 2202.01107). A figure is computed
for each query and averaged over queries. N recordings, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .segments import Span

FIRST = 10  # recordings of P@10


def precision_at(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    """Return the percentage of right recordings among the k best; ties are pessimistic.

    Args:
        scores: (N,), high is good.
        right: (N,) bool.
        k: number of recordings; all N where it is larger.
    """
    best = np.lexsort((right, -scores))[:k]
    return 100.0 * float(right[best].mean())


def equal_error_rate(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the percentage at which misses and false alarms are equally frequent.

    Between the thresholds at which scores change it is interpolated linearly.

    Args:
        scores: (N,), high is good.
        right: (N,) bool, neither all nor none.
    """
    from sklearn.metrics import roc_curve

    false_alarms, hits, _ = roc_curve(right, scores)
    return 100.0 * float(np.interp(0.0, false_alarms + hits - 1.0, false_alarms))


def detection_scores(queries: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Average the detection of queries.

    Args:
        queries: the scores of recordings and which of them are right, (N,) each, by query.

    Returns:
        Percent: `P@10`, `P@N` with N the number of right recordings, `EER`.
    """
    found = [
        (
            precision_at(scores, right, FIRST),
            precision_at(scores, right, int(right.sum())),
            equal_error_rate(scores, right),
        )
        for scores, right in queries
    ]
    return dict(zip(("P@10", "P@N", "EER"), np.mean(found, axis=0).tolist(), strict=True))


def chance_detection(right: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the expectation of `detection_scores` for a random order, percent."""
    share = 100.0 * float(np.mean([one.mean() for one in right]))
    return {"P@10": share, "P@N": share, "EER": 50.0}


def middle(span: Span) -> float:
    """Return the position of a segment, seconds."""
    return (span[0] + span[1]) / 2.0


def within(position: float, times: Sequence[Span]) -> bool:
    """Return whether a position lies in one of a word's occurrences; no tolerance is given."""
    return any(start <= position < end for start, end in times)


def share_of_time(times: Sequence[Span], duration: float) -> float:
    """Return the probability that a random position of a recording lies in an occurrence."""
    return min(1.0, sum(end - start for start, end in times) / duration)


def oracle_localisation(correct: np.ndarray, spoken: np.ndarray) -> float:
    """Return how often a word is found where it is known to be spoken, percent.

    Args:
        correct: (Q, N), whether the predicted position lies in the word, or the probability of it.
        spoken: (Q, N) bool, at least one a query.
    """
    return 100.0 * float(((correct * spoken).sum(1) / spoken.sum(1)).mean())


def actual_localisation(
    scores: np.ndarray, correct: np.ndarray, spoken: np.ndarray
) -> dict[str, float]:
    """Return how often recordings that a query finds say the word, and at the predicted position.

    A query finds as many recordings as say the word, so that precision, recall and F1 are one
    figure, and no threshold has to be tuned.

    Args:
        scores: (Q, N), high is good.
        correct: (Q, N) bool, whether the predicted position lies in the word.
        spoken: (Q, N) bool.

    Returns:
        Percent: `P@10` and `P@N`.
    """
    rows = list(zip(scores, correct & spoken, spoken.sum(1).tolist(), strict=True))
    return {
        "P@10": float(np.mean([precision_at(s, right, FIRST) for s, right, _ in rows])),
        "P@N": float(np.mean([precision_at(s, right, count) for s, right, count in rows])),
    }
