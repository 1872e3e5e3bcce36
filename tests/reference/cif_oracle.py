"""Integrate-and-fire, one frame and one utterance at a time, with Python's numbers."""

from __future__ import annotations

from collections.abc import Sequence

EPS = 1e-5  # what scaling adds to the target, as the official code does


def fire(
    features: Sequence[Sequence[float]],
    alpha: Sequence[float],
    target: int | None = None,
    threshold: float = 1.0,
    tail_threshold: float = 0.5,
    max_fires: int = 75,
) -> list[list[float]]:
    """Integrate one utterance's frames.

    Args:
        features: T frames of D numbers.
        alpha: T weights.
        target: scale to this many keywords and drop the remainder, or None.
        threshold, tail_threshold, max_fires: see `integrate_and_fire`.

    Returns:
        The keywords, D numbers each.
    """
    width = len(features[0])
    if target is not None:
        scale = (threshold * target + EPS) / sum(alpha)
        alpha = [a * scale for a in alpha]
    fired: list[list[float]] = []
    held, weight = [0.0] * width, 0.0
    for frame, arrived in zip(features, alpha, strict=True):
        left = arrived
        while weight + left >= threshold:
            part = threshold - weight
            fired.append([h + part * x for h, x in zip(held, frame, strict=True)])
            left -= part
            held, weight = [0.0] * width, 0.0
        held = [h + left * x for h, x in zip(held, frame, strict=True)]
        weight += left
    if not fired:
        return [held]
    if target is None and weight >= tail_threshold:
        fired.append([h * threshold / weight for h in held])
    return fired[:max_fires]
