"""ZeroSpeech 2021 semantic: layer, pooling and distance are chosen on dev and tested once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product
from typing import Any

from s3prl_speechclip.data.corpora.zerospeech import SPLITS, TYPES, SemanticSet
from s3prl_speechclip.results import result_record
from s3prl_speechclip.structures import TaskResult

from .zerospeech_features import FeatureSource, model_source, pooled, spectral_source
from .zerospeech_scores import (
    DISTANCES,
    POOLINGS,
    Comparison,
    Key,
    Vector,
    compare,
    correlate,
    plain_mean,
    semantic_correlations,
    weighted_mean,
)
from .zerospeech_submission import Choice, write_submission

__all__ = [
    "DISTANCES",
    "POOLINGS",
    "SEARCHED_POOLINGS",
    "Choice",
    "FeatureSource",
    "choose",
    "evaluate_zerospeech",
    "model_source",
    "semantic_correlations",
    "spectral_source",
    "write_submission",
]

SEARCHED_POOLINGS = ("mean", "max", "min", "last")
PROTOCOL = {
    "correlation": "100 x Spearman's, of people's scores (relatedness, unless a dataset lacks it: "
    "similarity) with negated distances; as zerospeech-benchmarks 0.9.4",
    "distance": "of a pair's pooled recordings, mean over all for librispeech, over those by one "
    "voice for synthetic",
    "mean": "over the datasets of a type",
    "weighted": "over the datasets of a type, by their numbers of pairs",
    "chosen": "one layer, pooling and distance for both types: the highest average of their means "
    "on dev; test is measured once, with these",
    "layers": "0: input of the transformer; then the output of each layer, then the branch's own",
    "precision": "fp32",
}


def evaluate_zerospeech(
    source: FeatureSource,
    data: SemanticSet,
    *,
    batch_size: int = 32,
    seed: int = 0,
    show_progress: bool = True,
) -> TaskResult:
    """Measure the semantic score of features.

    Args:
        source: of the features.
        data: the set.
        batch_size: recordings encoded at once.
        seed: noted in the result; nothing here is random.
        show_progress: a bar on standard error.

    Raises:
        CorpusError, AudioError: something of the set is missing or cannot be read.
        ResultError: a feature is not a number, or a dataset has no correlation.
    """
    started = time.perf_counter()
    splits = {name: data.split(name) for name in SPLITS}
    comparisons = {name: compare(split.gold, split.pairs) for name, split in splits.items()}
    recordings = {name: split.recordings() for name, split in splits.items()}
    dev_vectors = pooled(
        source,
        recordings["dev"],
        SEARCHED_POOLINGS,
        batch_size=batch_size,
        show_progress=show_progress,
    )
    chosen, dev, by_layer = choose(comparisons["dev"], dev_vectors)
    test_vectors = pooled(
        source,
        recordings["test"],
        [chosen.pooling],
        layers=[chosen.layer],
        batch_size=batch_size,
        show_progress=show_progress,
    )
    test = correlate(
        comparisons["test"], test_vectors[chosen.layer, chosen.pooling], chosen.distance
    )
    return result_record(
        started=started,
        task="zerospeech",
        system=source.system,
        size=source.size,
        corpus=data.corpus,
        checkpoint=source.checkpoint,
        checkpoint_hash=source.checkpoint_hash,
        metrics={
            "chosen": {
                "layer": chosen.layer,
                "pooling": chosen.pooling,
                "distance": chosen.distance,
            },
            "dev": _metrics(comparisons["dev"], dev),
            "test": _metrics(comparisons["test"], test),
            "best_on_dev_by_layer": {str(layer): round(v, 4) for layer, v in by_layer.items()},
        },
        protocol={**PROTOCOL, "poolings": list(SEARCHED_POOLINGS), "notes": list(data.notes)},
        seed=seed,
        mini=data.mini or source.size == "mini",
    )


def choose(
    comparison: Comparison, vectors: Mapping[tuple[int, str], Vector]
) -> tuple[Choice, dict[Key, float], dict[int, float]]:
    """Choose layer, pooling and distance on dev; the first of equals.

    Args:
        comparison: of dev.
        vectors: its pooled recordings by layer and pooling, (N, D) each.

    Returns:
        The choice, its correlations, and the best score of each layer.
    """
    best: tuple[float, Choice, dict[Key, float]] | None = None
    by_layer: dict[int, float] = {}
    for (layer, pooling), distance in product(vectors, DISTANCES):
        correlations = correlate(comparison, vectors[layer, pooling], distance)
        score = sum(plain_mean(correlations, kind) for kind in TYPES) / len(TYPES)
        by_layer[layer] = max(score, by_layer.get(layer, score))
        if best is None or score > best[0]:
            best = score, Choice(layer, pooling, distance), correlations
    assert best is not None, "no vectors to choose from"
    return best[1], best[2], by_layer


def _metrics(comparison: Comparison, correlations: Mapping[Key, float]) -> dict[str, Any]:
    counts = comparison.counts
    return {
        kind: {
            "mean": round(plain_mean(correlations, kind), 4),
            "weighted": round(weighted_mean(correlations, counts, kind), 4),
            "datasets": {
                key[1]: {"correlation": round(value, 4), "pairs": counts[key]}
                for key, value in correlations.items()
                if key[0] == kind
            },
        }
        for kind in TYPES
    }
