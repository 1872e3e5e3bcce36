"""ZeroSpeech 2021's semantic score: do distances between spoken words follow what people think?

Words are recordings, each pooled over its frames to a vector. The distance of two words is the mean
over pairs of their recordings: all of them for natural speech, those by one voice for synthetic
speech. A dataset's score is 100 times Spearman's correlation of people's scores with negated
distances. As the toolkit `zerospeech-benchmarks` 0.9.4 computes it, to rounding.

N recordings, P pairs, D width.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from s3prl_speechclip.data.corpora.zerospeech import (
    NATURAL,
    SYNTHETIC,
    Pair,
    read_gold,
    read_pairs,
)
from s3prl_speechclip.errors import ResultError, unknown_name

Vector = NDArray[np.float64]
Key = tuple[str, str]
"""Type and file name of a recording; or type and name of a dataset."""

BLOCK = 16_384  # pairs of recordings compared at once

POOLINGS: Mapping[str, Callable[[Vector], Vector]] = MappingProxyType(
    {
        "mean": lambda frames: frames.mean(0),
        "max": lambda frames: frames.max(0),
        "min": lambda frames: frames.min(0),
        "last": lambda frames: frames[-1],
        "sum": lambda frames: frames.sum(0),
        "lastlast": lambda frames: frames[-2],
    }
)
"""(T, D) to (D,), with the toolkit's names; `lastlast` is the frame before the last."""


def _cosine(a: Vector, b: Vector) -> Vector:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1.0 - np.einsum("nd,nd->n", a, b) / norms


def _euclidean(a: Vector, b: Vector) -> Vector:
    return np.linalg.norm(a - b, axis=1)


DISTANCES: Mapping[str, Callable[[Vector, Vector], Vector]] = MappingProxyType(
    {"cosine": _cosine, "euclidean": _euclidean}
)
"""(N, D) and (N, D), row by row, to (N,)."""


@dataclass(frozen=True)
class Comparison:
    """Which recordings the pairs of a set compare; the same for all features."""

    keys: tuple[Key, ...]
    """The set's recordings, N."""
    pairs: tuple[Pair, ...]
    """P."""
    rows: NDArray[np.int64]
    """(M, 2) recordings compared."""
    owner: NDArray[np.int64]
    """(M,) the pair that each comparison belongs to."""

    @property
    def counts(self) -> dict[Key, int]:
        """Return the number of pairs by type and dataset."""
        return dict(sorted(Counter((pair.type, pair.dataset) for pair in self.pairs).items()))


def semantic_correlations(
    features: Mapping[str, Mapping[str, Any]],
    gold: str | Path,
    pairs: str | Path,
    pooling: str = "mean",
    distance: str = "cosine",
) -> dict[Key, float]:
    """Correlate distances between spoken words with what people think of the words.

    Args:
        features: by type (`librispeech`, `synthetic`) and file name, (T, D) each.
        gold: CSV of type, filename, word, voice.
        pairs: CSV of type, dataset, word_1, word_2, similarity, relatedness.
        pooling: one of `POOLINGS`.
        distance: one of `DISTANCES`.

    Returns:
        100 x Spearman's correlation by (type, dataset).

    Raises:
        CorpusError: a CSV cannot be read.
        ResultError: a recording without features, features that are no finite (T, D) matrix, a
            pair without recordings, a dataset without a correlation.
    """
    if pooling not in POOLINGS:
        raise ResultError(unknown_name("pooling", pooling, POOLINGS))
    comparison = compare(Path(gold), Path(pairs))
    vectors = []
    for kind, name in comparison.keys:
        if name not in features.get(kind, {}):
            raise ResultError(
                f"there are no features of '{kind}/{name}', which '{gold}' names; compute them"
            )
        vectors.append(pool(features[kind][name], pooling, f"{kind}/{name}"))
    widths = {len(vector): key for key, vector in zip(comparison.keys, vectors, strict=True)}
    if len(widths) > 1:
        (width, one), (other_width, other), *_ = widths.items()
        raise ResultError(
            f"features must have one width, found {width} in '{'/'.join(one)}' and {other_width} "
            f"in '{'/'.join(other)}'"
        )
    return correlate(comparison, np.stack(vectors), distance)


def pool(frames: Any, pooling: str, name: str) -> Vector:
    """Pool the frames of a recording.

    Args:
        frames: (T, D), any kind of array.
        pooling: one of `POOLINGS`.
        name: of the recording, for messages.

    Returns:
        (D,).

    Raises:
        ResultError: what is no finite (T, D) matrix, or has too few frames.
    """
    matrix = np.asarray(frames, dtype=np.float64)
    least = 2 if pooling == "lastlast" else 1
    if matrix.ndim != 2 or len(matrix) < least or not matrix.shape[1]:
        raise ResultError(
            f"features of '{name}' must be (frames, width), {least} frame(s) or more for "
            f"'{pooling}', found {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise ResultError(f"features of '{name}' hold NaN or infinity; mend them")
    return POOLINGS[pooling](matrix)


def compare(gold: Path, pairs: Path) -> Comparison:
    """Read which recordings the pairs compare.

    Raises:
        CorpusError: a CSV cannot be read.
        ResultError: a pair that no recordings can be compared for.
    """
    tokens, rated = read_gold(gold), read_pairs(pairs)
    by_word: dict[Key, list[int]] = defaultdict(list)
    for row, token in enumerate(tokens):
        by_word[token.type, token.word].append(row)
    rows: list[tuple[int, int]] = []
    owner: list[int] = []
    for number, pair in enumerate(rated):
        compared = [
            (a, b)
            for a in by_word.get((pair.type, pair.word_1), ())
            for b in by_word.get((pair.type, pair.word_2), ())
            if pair.type != SYNTHETIC or tokens[a].voice == tokens[b].voice
        ]
        if not compared:
            which = "by one voice " if pair.type == SYNTHETIC else ""
            raise ResultError(
                f"'{gold}' has no {pair.type} recordings {which}of both '{pair.word_1}' and "
                f"'{pair.word_2}', which '{pairs}' compares"
            )
        rows += compared
        owner += [number] * len(compared)
    return Comparison(
        tuple((token.type, token.filename) for token in tokens),
        tuple(rated),
        np.array(rows, np.int64),
        np.array(owner, np.int64),
    )


def correlate(comparison: Comparison, vectors: Vector, distance: str) -> dict[Key, float]:
    """Correlate distances of pooled recordings, (N, D), with people's scores.

    Raises:
        ResultError: a distance that is no number, or a dataset without a correlation.
    """
    distances = word_distances(comparison, vectors, distance)
    groups: dict[Key, list[int]] = defaultdict(list)
    for number, pair in enumerate(comparison.pairs):
        groups[pair.type, pair.dataset].append(number)
    return {
        key: _correlation(key, [comparison.pairs[i] for i in numbers], distances[numbers])
        for key, numbers in sorted(groups.items())
    }


def word_distances(comparison: Comparison, vectors: Vector, distance: str) -> Vector:
    """Return the mean distance of the recordings of each pair, (P,).

    Raises:
        ResultError: a distance that is no number.
    """
    if distance not in DISTANCES:
        raise ResultError(unknown_name("distance", distance, DISTANCES))
    rows = comparison.rows
    found = np.concatenate(
        [
            DISTANCES[distance](vectors[part[:, 0]], vectors[part[:, 1]])
            for part in np.split(rows, range(BLOCK, len(rows), BLOCK))
        ]
    )
    broken = np.flatnonzero(~np.isfinite(found))
    if len(broken):
        one, other = ("/".join(comparison.keys[row]) for row in rows[broken[0]])
        raise ResultError(
            f"the {distance} distance of '{one}' and '{other}' is {found[broken[0]]}: one of them "
            "pools to zero or overflows"
        )
    total = np.bincount(comparison.owner, found, len(comparison.pairs))
    return total / np.bincount(comparison.owner, minlength=len(comparison.pairs))


def plain_mean(correlations: Mapping[Key, float], kind: str) -> float:
    """Average over the datasets of a type."""
    return float(np.mean(_of_type(correlations, kind)))


def weighted_mean(correlations: Mapping[Key, float], counts: Mapping[Key, int], kind: str) -> float:
    """Average over the datasets of a type, each counting as often as it has pairs."""
    weights = [counts[key] for key in correlations if key[0] == kind]
    return float(np.average(_of_type(correlations, kind), weights=weights))


def _of_type(correlations: Mapping[Key, float], kind: str) -> list[float]:
    found = [value for key, value in correlations.items() if key[0] == kind]
    if not found:
        raise ResultError(f"the set has no {kind} pairs; expected {NATURAL} and {SYNTHETIC} ones")
    return found


def _correlation(key: Key, pairs: Sequence[Pair], distances: Vector) -> float:
    related = np.array([pair.relatedness for pair in pairs])
    human = np.array([p.similarity for p in pairs]) if np.isnan(related).any() else related
    name = "/".join(key)
    if np.isnan(human).any():
        raise ResultError(
            f"dataset '{name}' has pairs without a score: expected 'relatedness' for all of its "
            "pairs, else 'similarity' for all"
        )
    if len(pairs) < 2 or np.ptp(human) == 0 or np.ptp(distances) == 0:
        raise ResultError(
            f"dataset '{name}' has no correlation: {len(pairs)} pair(s), and all scores or all "
            "distances are equal"
        )
    return 100.0 * float(spearmanr(human, -distances).statistic)
