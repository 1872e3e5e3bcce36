"""Image-speech retrieval: recall at k, recall by chance, and confidence intervals.

N captions, M images, E joint space. Scores are inner products of unit vectors.

Ranks are exact. Components are rounded to multiples of 2**-26 (finer than a float32 of 1/8 or
more), and by the Cauchy-Schwarz inequality every partial sum of a product of two such unit
vectors is then an integer multiple of 2**-52 of at most 1 in magnitude, which float64 holds
without rounding. So the order of summation, the size of a block and the device change nothing,
and two candidates tie exactly when their scores are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from ..errors import ResultError

GRID = 2.0**26  # grid points per unit of a component
NORM_TOLERANCE = 1e-3  # of a unit vector's length; float16 vectors pass, bfloat16 ones do not

Recall = dict[str, dict[int, float]]
"""Percent by direction (`speech_to_image`, `image_to_speech`, `mean`) and k."""


@dataclass(frozen=True)
class Ranks:
    """The place of the best right answer of every query, from 1."""

    speech_to_image: Tensor
    """(N,) int64, in the order of the captions."""
    image_to_speech: Tensor
    """(M,) int64, in the order in which the distinct images first appear."""


def recall_at_k(
    speech: Tensor | np.ndarray,
    images: Tensor | np.ndarray,
    speech_ids: Tensor | np.ndarray | Sequence[int],
    image_ids: Tensor | np.ndarray | Sequence[int],
    ks: Sequence[int] = (1, 5, 10),
    *,
    block_size: int = 1024,
) -> Recall:
    """Measure retrieval between captions and images in both directions.

    A caption finds its image if the image with its id is among the k best. An image finds its
    captions if any caption with its id is among the k best. Images are deduplicated by id, the
    first of each counting; all captions are kept. Ties are broken pessimistically: a wrong
    candidate whose score equals the right one's is placed before it.

    Args:
        speech: unit vectors of captions, (N, E), any floating type and device.
        images: unit vectors of images, (M, E).
        speech_ids: what each caption describes, (N,), whole numbers.
        image_ids: what each image is, (M,), whole numbers.
        ks: cut-offs; at or beyond the number of candidates recall is 100.
        block_size: captions and images compared at once; bounds memory, changes no result.

    Returns:
        Percent: `{"speech_to_image": {1: .., 5: .., 10: ..}, "image_to_speech": {..},
        "mean": {..}}`.

    Raises:
        ResultError: no embeddings, NaN or infinity, vectors that are not of unit length, shapes
            that do not fit, ids that are not whole numbers, a caption without its image or an
            image without captions.
    """
    ranks = retrieval_ranks(speech, images, speech_ids, image_ids, block_size=block_size)
    return recall_of_ranks(ranks, ks)


def recall_of_ranks(ranks: Ranks, ks: Sequence[int] = (1, 5, 10)) -> Recall:
    """Return the recall of given ranks; see `recall_at_k`."""
    _check_cutoffs(ks)

    def within(ranks: Tensor, k: int) -> float:
        return 100.0 * int((ranks <= k).sum()) / len(ranks)

    return _both_ways(
        {k: within(ranks.speech_to_image, k) for k in ks},
        {k: within(ranks.image_to_speech, k) for k in ks},
    )


def retrieval_ranks(
    speech: Tensor | np.ndarray,
    images: Tensor | np.ndarray,
    speech_ids: Tensor | np.ndarray | Sequence[int],
    image_ids: Tensor | np.ndarray | Sequence[int],
    *,
    block_size: int = 1024,
) -> Ranks:
    """Rank the best right answer of every caption and every image; see `recall_at_k`."""
    captions = _on_grid(speech, "speech")
    pictures = _on_grid(images, "image").to(captions.device)
    if captions.shape[1] != pictures.shape[1]:
        raise ResultError(
            f"speech and image embeddings must have one width, found {captions.shape[1]} and "
            f"{pictures.shape[1]}"
        )
    caption_ids = _whole_numbers(speech_ids, len(captions), "speech")
    first, answer = _match(caption_ids, _whole_numbers(image_ids, len(pictures), "image"))
    pictures, answer = pictures[first.to(captions.device)], answer.to(captions.device)

    right = torch.empty(len(captions), dtype=torch.float64, device=captions.device)
    for rows in _blocks(len(captions), block_size):
        right[rows] = (captions[rows] * pictures[answer[rows]]).sum(1)
    best = torch.full((len(pictures),), -math.inf, dtype=torch.float64, device=captions.device)
    best = best.scatter_reduce(0, answer, right, "amax")

    # Candidates at or above the right answer's score, itself among them.
    images_above = torch.zeros(len(captions), dtype=torch.int64, device=captions.device)
    captions_above = torch.zeros(len(pictures), dtype=torch.int64, device=captions.device)
    for rows in _blocks(len(captions), block_size):
        for columns in _blocks(len(pictures), block_size):
            scores = captions[rows] @ pictures[columns].T
            images_above[rows] += (scores >= right[rows, None]).sum(1)
            captions_above[columns] += (scores >= best[columns]).sum(0)

    # A second right caption with the best one's score is no wrong candidate.
    equally_right = torch.zeros_like(captions_above)
    equally_right.scatter_add_(0, answer, (right >= best[answer]).long())
    return Ranks(images_above.cpu(), (captions_above - equally_right + 1).cpu())


def chance_recall(
    speech_ids: Tensor | np.ndarray | Sequence[int],
    image_ids: Tensor | np.ndarray | Sequence[int],
    ks: Sequence[int] = (1, 5, 10),
) -> Recall:
    """Return the recall that a random order of the candidates has on average.

    A caption has one right image among M. An image has c right captions among N, and a draw of
    k misses all of them with probability C(N - c, k) / C(N, k). Arguments and result are those of
    `recall_at_k`.
    """
    _check_cutoffs(ks)
    captions = _whole_numbers(speech_ids, None, "speech")
    first, answer = _match(captions, _whole_numbers(image_ids, None, "image"))
    total, pictures = len(captions), len(first)
    images_by_captions = torch.bincount(torch.bincount(answer)).tolist()

    def image_to_speech(k: int) -> float:
        k = min(k, total)
        missed = sum(
            number * (math.comb(total - right, k) / math.comb(total, k))
            for right, number in enumerate(images_by_captions)
        )
        return 100.0 * (1.0 - missed / pictures)

    return _both_ways(
        {k: 100.0 * min(k, pictures) / pictures for k in ks}, {k: image_to_speech(k) for k in ks}
    )


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Bound a share of hits by Wilson's score interval, 95 %.

    Queries are taken as independent; several captions of one image are not quite, so the
    interval of speech-to-image recall is somewhat too narrow.

    Returns:
        Lower and upper end in percent.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ResultError(f"hits must be between 0 and the queries, found {hits} of {total}")
    interval = binomtest(hits, total).proportion_ci(method="wilson")
    return 100.0 * float(interval.low), 100.0 * float(interval.high)


def _both_ways(to_image: dict[int, float], to_speech: dict[int, float]) -> Recall:
    mean = {k: (to_image[k] + to_speech[k]) / 2 for k in to_image}
    return {"speech_to_image": to_image, "image_to_speech": to_speech, "mean": mean}


def _blocks(total: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, total, size)]


def _check_cutoffs(ks: Sequence[int]) -> None:
    if not ks or any(isinstance(k, bool) or not isinstance(k, Integral) or k < 1 for k in ks):
        raise ResultError(f"recall is measured at whole numbers from 1, found ks={tuple(ks)}")


def _on_grid(vectors: Tensor | np.ndarray, what: str) -> Tensor:
    """Check unit vectors and round them to the grid: (N, E) float64 in grid points."""
    given = vectors.detach() if isinstance(vectors, Tensor) else torch.tensor(np.asarray(vectors))
    if given.ndim != 2 or not given.is_floating_point():
        raise ResultError(
            f"{what} embeddings must be a floating (number, width) matrix, found "
            f"{given.dtype} {tuple(given.shape)}"
        )
    if not given.numel():
        raise ResultError(f"there are no {what} embeddings: found shape {tuple(given.shape)}")
    if given.device.type == "mps":  # has no float64
        given = given.cpu()
    given = given.double()
    norms = given.norm(dim=1)
    _refuse_rows(~norms.isfinite(), f"{what} embeddings hold NaN or infinity")
    _refuse_rows(
        (norms - 1).abs() > NORM_TOLERANCE,
        f"{what} embeddings must be unit vectors, normalise them in float32; they are not",
    )
    return given.mul(GRID).round_()


def _whole_numbers(ids: Any, expected: int | None, what: str) -> Tensor:
    given = ids.detach().cpu() if isinstance(ids, Tensor) else torch.tensor(np.asarray(ids))
    if not given.numel():
        raise ResultError(f"there are no {what} ids")
    if given.ndim != 1 or given.dtype == torch.bool or given.is_floating_point():
        raise ResultError(
            f"{what} ids must be a list of whole numbers, found {given.dtype} {tuple(given.shape)}"
        )
    if expected is not None and len(given) != expected:
        raise ResultError(f"there must be one {what} id per embedding: {len(given)} for {expected}")
    return given.long()


def _match(speech_ids: Tensor, image_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Find the row of each distinct image, (M,), and each caption's place among them, (N,)."""
    place: dict[int, int] = {}
    first: list[int] = []
    for row, identity in enumerate(image_ids.tolist()):
        if identity not in place:
            place[identity] = len(first)
            first.append(row)
    captions = speech_ids.tolist()
    _refuse_ids([i for i in captions if i not in place], "a caption", "image")
    _refuse_ids(sorted(place.keys() - set(captions)), "an image", "captions")
    return torch.tensor(first), torch.tensor([place[identity] for identity in captions])


def _refuse_rows(wrong: Tensor, complaint: str) -> None:
    rows = wrong.nonzero()[:, 0].tolist()
    if rows:
        raise ResultError(f"{complaint} in {len(rows)} of {len(wrong)} rows, first row {rows[0]}")


def _refuse_ids(ids: Sequence[int], what: str, missing: str) -> None:
    if ids:
        raise ResultError(
            f"{what} has no {missing}: id {ids[0]}, one of {len(set(ids))} such; drop them from "
            "both sides before measuring"
        )
