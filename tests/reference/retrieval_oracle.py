"""Retrieval by sorting, one query at a time, in whole numbers: slow and obvious."""

from __future__ import annotations

import random
from collections.abc import Sequence


def on_grid(vector: Sequence[float]) -> list[int]:
    """Round a vector's components to multiples of 2**-26; Python's integers never round again."""
    return [round(float(component) * 2**26) for component in vector]


def score(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def found(query: Sequence[int], candidates: list, ids: list[int], right: int, k: int) -> bool:
    """Sort candidates by score, wrong ones first among equals, and look at the first k."""
    ordered = sorted(
        zip(candidates, ids, strict=True),
        key=lambda candidate: (-score(query, candidate[0]), candidate[1] == right),
    )
    return any(identity == right for _, identity in ordered[:k])


def recall(
    speech: list, images: list, speech_ids: list[int], image_ids: list[int], ks: Sequence[int]
) -> dict:
    speech = [on_grid(vector) for vector in speech]
    first = {}
    for vector, identity in zip(images, image_ids, strict=True):
        first.setdefault(identity, on_grid(vector))
    distinct, pictures = list(first), list(first.values())

    result: dict = {"speech_to_image": {}, "image_to_speech": {}, "mean": {}}
    for k in ks:
        to_image = [
            found(vector, pictures, distinct, identity, k)
            for vector, identity in zip(speech, speech_ids, strict=True)
        ]
        to_speech = [
            found(vector, speech, speech_ids, identity, k) for identity, vector in first.items()
        ]
        result["speech_to_image"][k] = 100 * sum(to_image) / len(to_image)
        result["image_to_speech"][k] = 100 * sum(to_speech) / len(to_speech)
        result["mean"][k] = (result["speech_to_image"][k] + result["image_to_speech"][k]) / 2
    return result


def shuffled_recall(
    speech_ids: list[int], image_ids: list[int], k: int, rounds: int
) -> tuple[float, float]:
    """Recall of random orders, averaged: what chance gives, by trying."""
    dice = random.Random(0)
    images = list(dict.fromkeys(image_ids))
    to_image = to_speech = 0
    for _ in range(rounds):
        for identity in speech_ids:
            to_image += identity in dice.sample(images, min(k, len(images)))
        for identity in images:
            to_speech += identity in dice.sample(speech_ids, min(k, len(speech_ids)))
    return 100 * to_image / rounds / len(speech_ids), 100 * to_speech / rounds / len(images)
