"""ZeroSpeech 2021's semantic score: do distances between spoken words follow what people think?

Words are recordings, each pooled over its frames to a vector. The distance of two words is the mean
over pairs of their recordings: all of them for natural speech, those by one voice for synthetic
speech. A dataset's score is 100 times Spearman's correlation of people's scores with negated
distances. As the toolkit `zerospeech-benchmarks` 0.9.4 computes it, to rounding.

N recordings, P pairs, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s3prl_speechclip.data.corpora.zerospeech import SYNTHETIC, read_gold, read_pairs
from s3prl_speechclip.errors import ResultError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Vector = NDArray[np.float64]
Key = tuple[str, str]
"""Type and file name of a recording; or type and name of a dataset."""

BLOCK = 16_384  # pairs of recordings compared at once
RESAMPLES = 1000  # of the pairs of a dataset

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


DISTANCES: Mapping[str, Callable[[Vector, Vector], Vector]] = MappingProxyType(
    {"cosine": _cosine, "euclidean": lambda a, b: np.linalg.norm(a - b, axis=1)}
)
"""(N, D) and (N, D), row by row, to (N,)."""


@dataclass(frozen=True)
class Comparison:
    """Which recordings the pairs of a set compare; the same for all features."""

    keys: tuple[Key, ...]
    """The set's recordings, N."""
    pairs: pd.DataFrame
    """P rows with the fields of `Pair`."""
    rows: NDArray[np.int64]
    """(M, 2) recordings compared."""
    owner: NDArray[np.int64]
    """(M,) the pair that each comparison belongs to."""

    @property
    def counts(self) -> dict[Key, int]:
        """Return the number of pairs by type and dataset."""
        return self.pairs.groupby(["type", "dataset"]).size().to_dict()


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
    vectors: list[Vector] = []
    for kind, name in comparison.keys:
        if name not in features.get(kind, {}):
            raise ResultError(
                f"there are no features of '{kind}/{name}', which '{gold}' names; compute them"
            )
        vectors.append(pool(features[kind][name], pooling, f"{kind}/{name}"))
        if len(vectors[-1]) != len(vectors[0]):
            raise ResultError(
                f"features must have one width, found {len(vectors[0])} and, in '{kind}/{name}', "
                f"{len(vectors[-1])}"
            )
    return correlate(comparison, np.stack(vectors), distance)


def pool(frames: Any, pooling: str, name: str) -> Vector:
    """Pool the frames of a recording, (T, D) of any kind of array, to (D,).

    Raises:
        ResultError: what is no finite (T, D) matrix, or has too few frames; names the recording.
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
    import pandas as pd

    tokens, rated = pd.DataFrame(read_gold(gold)), pd.DataFrame(read_pairs(pairs))
    one, other = (
        tokens.rename_axis(f"row_{side}").reset_index().rename(columns={"word": f"word_{side}"})
        for side in (1, 2)
    )
    compared = rated.rename_axis("pair").reset_index().merge(one, on=["type", "word_1"])
    compared = compared.merge(other, on=["type", "word_2"], suffixes=("_1", "_2"))
    one_voice = compared.voice_1 == compared.voice_2
    compared = compared[(compared.type != SYNTHETIC) | one_voice].sort_values("pair", kind="stable")
    alone = rated.drop(index=compared.pair)
    if len(alone):
        pair = alone.iloc[0]
        which = "by one voice " if pair.type == SYNTHETIC else ""
        raise ResultError(
            f"'{gold}' has no {pair.type} recordings {which}of both '{pair.word_1}' and "
            f"'{pair.word_2}', which '{pairs}' compares"
        )
    keys = tuple(zip(tokens.type, tokens.filename, strict=True))
    return Comparison(
        keys, rated, compared[["row_1", "row_2"]].to_numpy(), compared.pair.to_numpy()
    )


def correlate(comparison: Comparison, vectors: Vector, distance: str) -> dict[Key, float]:
    """Correlate distances of pooled recordings, (N, D), with people's scores.

    Raises:
        ResultError: a distance that is no number, or a dataset without a correlation.
    """
    rated = comparison.pairs.assign(distance=word_distances(comparison, vectors, distance))
    return {
        (kind, dataset): _correlation(f"{kind}/{dataset}", pairs)
        for (kind, dataset), pairs in rated.groupby(["type", "dataset"])
    }


def mean_intervals(
    comparison: Comparison, vectors: Vector, distance: str
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each type's mean over datasets, by resampling pairs.

    Args:
        comparison, vectors, distance: as for `correlate`.
    """
    from scipy.stats import rankdata

    random = np.random.default_rng(0)
    rated = comparison.pairs.assign(distance=word_distances(comparison, vectors, distance))
    drawn: dict[str, list[Vector]] = {}
    for (kind, _), pairs in rated.groupby(["type", "dataset"]):
        rows = random.integers(0, len(pairs), (RESAMPLES, len(pairs)))
        ranks = [
            rankdata(values.to_numpy()[rows], axis=1)
            for values in (_human(pairs), -pairs["distance"])
        ]
        one, other = (each - each.mean(1, keepdims=True) for each in ranks)
        norms = np.sqrt((one**2).sum(1) * (other**2).sum(1))
        with np.errstate(invalid="ignore"):  # all equal
            drawn.setdefault(kind, []).append(100.0 * (one * other).sum(1) / norms)
    return {
        kind: tuple(np.nanquantile(np.mean(found, axis=0), (0.025, 0.975)).tolist())
        for kind, found in drawn.items()
    }


def word_distances(comparison: Comparison, vectors: Vector, distance: str) -> Vector:
    """Return the mean distance of the recordings of each pair, (P,).

    Raises:
        ResultError: a distance that is no number.
    """
    if distance not in DISTANCES:
        raise ResultError(unknown_name("distance", distance, DISTANCES))
    rows, owner = comparison.rows, comparison.owner
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
    return np.bincount(owner, found) / np.bincount(owner)


def type_mean(
    correlations: Mapping[Key, float], kind: str, counts: Mapping[Key, int] | None = None
) -> float:
    """Average over the datasets of a type, each weighted by its number of pairs, if given."""
    keys = [key for key in correlations if key[0] == kind]
    if not keys:
        raise ResultError(f"the set has no {kind} pairs; restore its pairs.csv")
    weights = None if counts is None else [counts[key] for key in keys]
    return float(np.average([correlations[key] for key in keys], weights=weights))


def _human(pairs: pd.DataFrame) -> pd.Series:
    """Return people's scores of a dataset's pairs."""
    return pairs.similarity if pairs.relatedness.isna().any() else pairs.relatedness


def _correlation(name: str, pairs: pd.DataFrame) -> float:
    from scipy.stats import spearmanr

    human = _human(pairs)
    if human.isna().any():
        raise ResultError(
            f"dataset '{name}' has pairs without a score: expected 'relatedness' for all of its "
            "pairs, else 'similarity' for all"
        )
    if len(pairs) < 2 or human.nunique() == 1 or pairs.distance.nunique() == 1:
        raise ResultError(
            f"dataset '{name}' has no correlation: {len(pairs)} pair(s), and all scores or all "
            "distances are equal"
        )
    return 100.0 * float(spearmanr(human, -pairs.distance).statistic)
