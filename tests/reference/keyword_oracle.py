"""Keywords scored one at a time, and chance by trying: slow and obvious."""

from __future__ import annotations

import itertools
import random


def hits(keywords: list[int], caption: set[int], neighbours: dict[int, tuple[int, ...]]) -> int:
    count = 0
    for keyword in keywords:
        hit = False
        for near in neighbours[keyword]:
            if near in caption:
                hit = True
        if hit:
            count += 1
    return count


def random_hit_rate(
    captions: list[set[int]], keywords: list[int], vocabulary: list[int], drawn: int, rounds: int
) -> float:
    """Draw the neighbours of each keyword at random, again and again."""
    dice = random.Random(0)
    found = total = 0
    for _ in range(rounds):
        for caption, count in zip(captions, keywords, strict=True):
            for _ in range(count):
                total += 1
                found += bool(caption & set(dice.sample(vocabulary, drawn)))
    return 100 * found / total


def shuffled_hit_rate(
    keywords: list[list[int]], captions: list[set[int]], neighbours: dict[int, tuple[int, ...]]
) -> float:
    """Put each recording's keywords beside each caption."""
    found = total = 0
    for said, caption in itertools.product(keywords, captions):
        found += hits(said, caption, neighbours)
        total += len(said)
    return 100 * found / total


def overlap(predicted: list[set], right: list[set]) -> tuple[float, float, float]:
    """Precision, recall and F1 by listing every true, false and missed item."""
    true = [x for p, r in zip(predicted, right, strict=True) for x in p if x in r]
    false = [x for p, r in zip(predicted, right, strict=True) for x in p if x not in r]
    missed = [x for p, r in zip(predicted, right, strict=True) for x in r if x not in p]
    precision = len(true) / (len(true) + len(false)) if true or false else 0.0
    recall = len(true) / (len(true) + len(missed)) if true or missed else 0.0
    f1 = 2 * precision * recall / (precision + recall) if true else 0.0
    return 100 * precision, 100 * recall, 100 * f1


def largest_matching(predicted: list[float], gold: list[float], tolerance: float) -> int:
    """Try every way to match boundaries one to one."""
    if not predicted:
        return 0
    first, *rest = predicted
    best = largest_matching(rest, gold, tolerance)
    for place, other in enumerate(gold):
        if abs(first - other) <= tolerance + 1e-6:
            left = gold[:place] + gold[place + 1 :]
            best = max(best, 1 + largest_matching(rest, left, tolerance))
    return best
