"""ABX error: is a triphone nearer to another of its kind than to one whose middle phone differs?

A, B and X are triphones in the same context (previous and next phone); A and X have the same middle
phone, B another. Within speakers all three are by one speaker; across, A and B are by one and X is
by another. A cell's error is the share of its triples in which X is nearer to B than to A, ties
counting half. The score is the mean over contexts, then speakers, then pairs of phones, as in
ZeroSpeech 2021 (arXiv 2011.11588) and fastabx, with whose figures it agrees.

The distance of two triphones is the mean angle between frames, in units of pi, along the path of
least total distance (dynamic time warping).

N items, P pairs of items, S and T frames, D width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from s3prl_speechclip.data.corpora.zerospeech import Item
from s3prl_speechclip.errors import ResultError

BLOCK = 1 << 25  # numbers that a block of pairs takes at once, 128 MB
Rows = NDArray[np.int64]


class Cell(NamedTuple):
    """Triples that differ in the items alone; each field of rows indexes the items."""

    phone: str
    """The middle phone of A and X."""
    other: str
    """The middle phone of B."""
    speaker: str
    """Who says A and B."""
    a: Rows
    b: Rows
    x: Rows


@dataclass(frozen=True)
class Plan:
    """The comparisons of a set, the same for all features."""

    cells: tuple[Cell, ...]
    pairs: Rows
    """(P, 2) items X and A, or X and B, sorted, none twice."""
    items: int
    """N."""


def plan(
    items: Sequence[Item],
    *,
    across: bool,
    most_items: int | None = None,
    most_speakers: int | None = None,
    seed: int = 0,
) -> Plan:
    """Return the cells of a set and the pairs that they compare.

    Args:
        items: triphones.
        across: whether X is by another speaker than A and B.
        most_items: limit of items of a phone by a speaker in a context; None: all.
        most_speakers: limit of speakers of X for an A and B; None: all.
        seed: of the draw of items and speakers where there are more.
    """
    random = Random(seed)
    contexts: dict[tuple[str, str], dict[str, dict[str, list[int]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row, item in enumerate(items):
        contexts[item.previous, item.following][item.phone][item.speaker].append(row)

    def drawn(some: list[Any], most: int | None) -> list[Any]:
        return some if most is None or len(some) <= most else random.sample(some, most)

    cells = []
    for phones in contexts.values():
        rows = {
            (phone, speaker): np.array(drawn(own, most_items))
            for phone, speakers in phones.items()
            for speaker, own in speakers.items()
        }
        for phone, other in permutations(phones, 2):
            for speaker in (s for s in phones[phone] if s in phones[other]):
                a, b = rows[phone, speaker], rows[other, speaker]
                if across:
                    others = drawn([s for s in phones[phone] if s != speaker], most_speakers)
                    cells += [Cell(phone, other, speaker, a, b, rows[phone, s]) for s in others]
                elif len(a) > 1:
                    cells.append(Cell(phone, other, speaker, a, b, a))
    codes = [
        (x[:, None] * len(items) + np.concatenate([a, b])).ravel() for _, _, _, a, b, x in cells
    ]
    unique = np.unique(np.concatenate([np.empty(0, np.int64), *codes]))
    return Plan(tuple(cells), np.stack(np.divmod(unique, len(items)), 1), len(items))


def abx_error(plan: Plan, distances: NDArray[np.float32]) -> float:
    """Return the error in 0 to 1; chance is 0.5.

    Args:
        plan: cells and pairs.
        distances: distance of each of the plan's pairs, (P,).

    Raises:
        ResultError: there is nothing to compare.
    """
    if not plan.cells:
        raise ResultError(
            "no two triphones of the items differ in the middle phone alone; check the item file"
        )
    codes = plan.pairs[:, 0] * plan.items + plan.pairs[:, 1]

    def between(x: Rows, others: Rows) -> NDArray[np.float32]:
        return distances[np.searchsorted(codes, x[:, None] * plan.items + others)]

    rows = []
    for phone, other, speaker, a, b, x in plan.cells:
        to_a, to_b = between(x, a)[:, :, None], between(x, b)[:, None]
        wrong = (to_a > to_b) + 0.5 * (to_a == to_b)
        # An item is not compared with itself.
        rows.append((phone, other, speaker, wrong[x[:, None] != a].mean()))
    table = pd.DataFrame(rows, columns=["phone", "other", "speaker", "error"])
    by_speaker = table.groupby(["phone", "other", "speaker"]).error.mean()
    return float(by_speaker.groupby(["phone", "other"]).mean().mean())


def pair_distances(
    frames: Tensor, starts: Tensor, lengths: Tensor, pairs: Rows
) -> NDArray[np.float32]:
    """Return the distances of pairs of items, (P,).

    Args:
        frames: features of all recordings one after another, (T, D).
        starts: first frame of each item, (N,) int64.
        lengths: number of frames of each item, at least 1, (N,) int64.
        pairs: (P, 2) rows of items.
    """
    unit = torch.nn.functional.normalize(frames.float(), dim=1)
    found = torch.empty(len(pairs), device=frames.device)
    own = lengths.cpu().numpy()[pairs]
    # The longest first, and similar lengths together, so that little is padding.
    order = np.lexsort((own.min(1), own.max(1)))[::-1]
    first = 0
    while first < len(order):
        longest = int(own[order[first]].max())
        size = max(1, BLOCK // (longest * (2 * frames.shape[1] + 3 * longest)))
        block = order[first : first + size].copy()
        x, y = torch.from_numpy(pairs[block].T).to(frames.device)
        angles = _gather(unit, starts[x], lengths[x]) @ _gather(unit, starts[y], lengths[y]).mT
        angles = angles.clamp(-1, 1).acos() / torch.pi
        found[torch.from_numpy(block).to(frames.device)] = warped(angles, lengths[x], lengths[y])
        first += size
    return found.cpu().numpy()


def _gather(frames: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Return the frames of items, (P, S, D); what is beyond an item's length is to be ignored."""
    steps = torch.arange(int(lengths.max()), device=frames.device)
    return frames[(starts[:, None] + steps).clamp(max=len(frames) - 1)]


def warped(distances: Tensor, lengths: Tensor, others: Tensor) -> Tensor:
    """Return the mean distance along the path of least total distance, (P,).

    A path goes on in both items or in one; of equal ways back the diagonal is taken, then the one
    in the second item.

    Args:
        distances: between frames, (P, S, T).
        lengths: valid frames of the first items, (P,), from 1 to S.
        others: valid frames of the second items, (P,), from 1 to T.
    """
    total = distances.permute(1, 2, 0).contiguous()  # (S, T, P): a step is one row of memory
    steps = torch.ones_like(total)
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            if i and j:
                diagonal, left, up = total[i - 1, j - 1], total[i, j - 1], total[i - 1, j]
                straight = torch.minimum(left, up)
                aside = torch.where(left <= up, steps[i, j - 1], steps[i - 1, j])
                steps[i, j] += torch.where(diagonal <= straight, steps[i - 1, j - 1], aside)
                total[i, j] += torch.minimum(diagonal, straight)
            elif i or j:
                before = (i - 1, j) if i else (i, j - 1)
                steps[i, j] += steps[before]
                total[i, j] += total[before]
    ends = lengths - 1, others - 1, torch.arange(len(lengths), device=distances.device)
    return total[ends] / steps[ends]
