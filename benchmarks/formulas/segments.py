"""How well automatic segments agree with the times of words: pure functions over seconds.

Boundaries lie strictly inside an utterance: its start and end are known and count on neither side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_speechclip.data.manifest import Word

from .keyword_scores import Neighbours, read_caption

TOLERANCES = (0.02, 0.05)  # seconds
SAME = 1e-3  # seconds; edges nearer than this are one boundary
ROUNDING = 1e-6  # seconds; a distance of exactly the tolerance is within it

Span = tuple[float, float]
"""Onset and offset, seconds."""


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """One recording with automatic segments and gold words."""

    spans: tuple[Span, ...]
    words: tuple[Word, ...]
    duration: float
    """Seconds."""
    token_ids: tuple[int, ...] = ()
    """The keyword of each span, where spans have one."""


def boundaries(edges: Sequence[float], duration: float) -> list[float]:
    """Return the distinct boundaries strictly inside an utterance, rising."""
    inside: list[float] = []
    for edge in sorted(edges):
        if SAME < edge < duration - SAME and (not inside or edge - inside[-1] > SAME):
            inside.append(edge)
    return inside


def matches(predicted: Sequence[float], gold: Sequence[float], tolerance: float) -> int:
    """Count boundaries that agree, each with one other at most.

    Args:
        predicted, gold: rising, seconds.
        tolerance: seconds.

    Returns:
        The size of the largest matching: with one tolerance, taking the first that fits from the
        left leaves the most for the rest.
    """
    count = p = g = 0
    while p < len(predicted) and g < len(gold):
        if abs(predicted[p] - gold[g]) <= tolerance + ROUNDING:
            count, p, g = count + 1, p + 1, g + 1
        elif predicted[p] < gold[g]:
            p += 1
        else:
            g += 1
    return count


def boundary_scores(recordings: Sequence[Segmented], tolerance: float) -> dict[str, float]:
    """Score boundaries against those of words, counted over all recordings together.

    Returns:
        `precision`, `recall`, `f1`, and `r_value` (Rasanen, Laine, Altosaar 2009), which a
        segmentation cannot raise by putting boundaries everywhere, in percent; `per_word`,
        predicted boundaries per gold one.
    """
    agreed = predicted = gold = 0
    for recording in recordings:
        words = [(word.start, word.end) for word in recording.words]
        found, right = (
            boundaries([edge for span in spans for edge in span], recording.duration)
            for spans in (recording.spans, words)
        )
        agreed += matches(found, right, tolerance)
        predicted += len(found)
        gold += len(right)
    recall = agreed / gold if gold else 0.0
    both = predicted + gold
    return {
        "precision": 100.0 * agreed / predicted if predicted else 0.0,
        "recall": 100.0 * recall,
        "f1": 200.0 * agreed / both if both else 0.0,
        "r_value": 100.0 * r_value(recall, predicted / gold - 1.0) if gold else 0.0,
        "per_word": predicted / gold if gold else 0.0,
    }


def boundary_scores_by_tolerance(recordings: Sequence[Segmented]) -> dict[str, dict[str, float]]:
    """Score boundaries at each of `TOLERANCES`, by `20ms` and so on, rounded to four decimals."""
    return {
        f"{round(1000 * tolerance)}ms": {
            name: round(score, 4) for name, score in boundary_scores(recordings, tolerance).items()
        }
        for tolerance in TOLERANCES
    }


def r_value(recall: float, oversegmentation: float) -> float:
    """Return the R-value of boundaries: 1 is perfect.

    Args:
        recall: share of gold boundaries found.
        oversegmentation: predicted per gold boundaries, less 1.
    """
    to_ideal = math.hypot(1.0 - recall, oversegmentation)
    to_line = (recall - 1.0 - oversegmentation) / math.sqrt(2.0)
    return 1.0 - (abs(to_ideal) + abs(to_line)) / 2.0


def overlap(span: Span, word: Word) -> float:
    """Return the seconds that a span and a word share."""
    return max(0.0, min(span[1], word.end) - max(span[0], word.start))


def closest_word(span: Span, words: Sequence[Word]) -> Word | None:
    """Return the word that a span shares the most time with; the first among equals, or None."""
    best = max(words, key=lambda word: overlap(span, word), default=None)
    return best if best is not None and overlap(span, best) > 0.0 else None


def timing_errors(recordings: Sequence[Segmented]) -> dict[str, float]:
    """Measure how far spans begin and end from the word that they share the most time with.

    Returns:
        In seconds: `onset_mean`, `onset_median`, `offset_mean`, `offset_median` of the distances,
        `onset_bias`, `offset_bias`, means with sign (positive: too late). `silent`: percent of
        spans that share no time with any word and are left out of these.
    """
    errors: dict[str, list[float]] = {"onset": [], "offset": []}
    for recording in recordings:
        for span in recording.spans:
            if word := closest_word(span, recording.words):
                errors["onset"].append(span[0] - word.start)
                errors["offset"].append(span[1] - word.end)
    found: dict[str, float] = {}
    for name, signed in errors.items():
        if signed:
            found[f"{name}_mean"] = float(np.abs(signed).mean())
            found[f"{name}_median"] = float(np.median(np.abs(signed)))
            found[f"{name}_bias"] = float(np.mean(signed))
    spans = sum(len(recording.spans) for recording in recordings)
    found["silent"] = 100.0 * (1.0 - len(errors["onset"]) / spans) if spans else 0.0
    return found


def named_at(recordings: Sequence[Segmented], neighbours: Neighbours) -> dict[str, float]:
    """Measure how many keywords name a word that they were spoken at, percent of keywords.

    A keyword names a word if a token of that word is the keyword's own (`token`), or among its
    neighbours (`neighbours`). `anywhere` counts words of the whole utterance: what a keyword that
    knows the words but not their places would have.
    """
    hits = {"token": 0, "neighbours": 0, "anywhere": 0}
    keywords = 0
    for recording in recordings:
        spoken = [(word, read_caption(word.text).tokens) for word in recording.words]
        for span, token in zip(recording.spans, recording.token_ids, strict=True):
            keywords += 1
            near = neighbours[token]
            here = [tokens for word, tokens in spoken if overlap(span, word) > 0.0]
            hits["token"] += any(token in tokens for tokens in here)
            hits["neighbours"] += any(not tokens.isdisjoint(near) for tokens in here)
            hits["anywhere"] += any(not tokens.isdisjoint(near) for _, tokens in spoken)
    return {name: 100.0 * count / keywords if keywords else 0.0 for name, count in hits.items()}
