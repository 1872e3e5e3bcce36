"""Masked InfoNCE, one pair at a time."""

from __future__ import annotations

import math

from torch import Tensor


def loss(
    speech: Tensor,
    images: Tensor,
    pair_ids: Tensor,
    scale: float,
    margin: float = 0.0,
    decoupled: bool = False,
) -> float:
    """Contrast each recording with the images, and each image with the recordings."""
    number = len(pair_ids)

    def score(i: int, j: int) -> float:
        value = float(speech[i] @ images[j]) * scale
        return value - margin if i == j else value

    total = 0.0
    for i in range(number):
        for pairs in ([(i, j) for j in range(number)], [(j, i) for j in range(number)]):
            denominator = 0.0
            for a, b in pairs:
                counts = not decoupled if a == b else int(pair_ids[a]) != int(pair_ids[b])
                denominator += math.exp(score(a, b)) if counts else 0.0
            if denominator:  # a row without negatives costs nothing
                total += math.log(denominator) - score(i, i)
    return total / (2 * number)
