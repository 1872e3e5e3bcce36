"""Do distances between spoken words follow their meanings (ZeroSpeech 2021 semantic)?

Layer, pooling and distance are chosen on dev; test is measured once, with these.
"""

from __future__ import annotations

import logging
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.data.corpora.zerospeech import (
    NATURAL,
    SPLITS,
    TYPES,
    ZeroSpeech,
    load_semantic,
)
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.options import add_option
from s3prl_speechclip.structures import TaskResult

from .formulas.semantic_scores import (
    DISTANCES,
    Comparison,
    Key,
    Vector,
    compare,
    correlate,
    mean_intervals,
    pool,
    semantic_correlations,
    type_mean,
)
from .shared.benchmark import Benchmark, Measured, titled_table
from .shared.board import Column, Figure, Section
from .shared.encoding import (
    LOG_MEL,
    FeatureSource,
    add_source_options,
    check_source,
    find_source,
    frames,
)

__all__ = ["BENCHMARK", "semantic_correlations"]

logger = logging.getLogger(__name__)

SCORE = "mean (the score)"
META = Path(__file__).parent / "shared" / "submission.yaml"
SEARCHED_POOLINGS = ("mean", "max", "min", "last")
PROTOCOL = {
    "correlation": "100 x Spearman's, of people's scores (relatedness, unless a dataset lacks it: "
    "similarity) with negated distances; as zerospeech-benchmarks 0.9.4",
    "distance": "of a pair's pooled recordings, mean over all for librispeech, over those by one "
    "voice for synthetic",
    "score": "mean: over the datasets of a type, each counting alike",
    "interval_95": "of the mean on test, by resampling the pairs of each dataset",
    "weighted": "over the datasets of a type, by their numbers of pairs",
    "chosen": "one layer, pooling and distance for both types: the highest average of their means "
    "on dev; test is measured once, with these",
}


@dataclass(frozen=True)
class Choice:
    """How a recording becomes a vector, and vectors are compared."""

    layer: int
    pooling: str
    distance: str


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_source_options(p, "semantic")
    add_option(
        p, "--submission DIR", "also write the files that the official toolkit reads", type=Path
    )


def run(args: Namespace) -> Measured:
    """Measure the semantic score of a system.

    Raises:
        CorpusError, AudioError: something of the set is missing or cannot be read.
        ResultError: a feature is not a number, or a dataset has no correlation.
    """
    check_source(args)  # before a mini set is made
    data = load_semantic(args.data_root, args.archive)
    source = find_source(args)
    result, chosen = measure(source, data, args.batch_size)

    def write_beside(path: Path) -> None:
        if args.submission:
            write_submission(Path(args.submission), source, data, chosen, args.batch_size)
            logger.info("submission: %s", args.submission)

    return Measured(result, write_beside)


def measure(
    source: FeatureSource, data: ZeroSpeech, batch_size: int = 32
) -> tuple[TaskResult, Choice]:
    """Measure features on a semantic set; returns the record and what was chosen on dev."""
    started = time.perf_counter()
    splits = {name: data.split(name) for name in SPLITS}
    comparisons = {name: compare(split.gold, split.pairs) for name, split in splits.items()}
    recordings = {name: split.recordings() for name, split in splits.items()}
    vectors = pooled(source, recordings["dev"], SEARCHED_POOLINGS, batch_size)
    chosen, dev, by_layer = choose(comparisons["dev"], vectors)
    vectors = pooled(source, recordings["test"], [chosen.pooling], batch_size, chosen.layer)
    tested = comparisons["test"], vectors[chosen.layer, chosen.pooling], chosen.distance
    test = _metrics(comparisons["test"], correlate(*tested))
    for kind, interval in mean_intervals(*tested).items():
        test[kind]["interval_95"] = [round(end, 4) for end in interval]
    metrics = {
        "chosen": asdict(chosen),
        "dev": _metrics(comparisons["dev"], dev),
        "test": test,
        "best_on_dev_by_layer": {str(layer): round(v, 4) for layer, v in by_layer.items()},
    }
    protocol = {**PROTOCOL, "poolings": list(SEARCHED_POOLINGS)}
    return source.record("zerospeech", data, started, metrics, protocol), chosen


def choose(
    comparison: Comparison, vectors: Mapping[tuple[int, str], Vector]
) -> tuple[Choice, dict[Key, float], dict[int, float]]:
    """Choose layer, pooling and distance on dev; the first of equals.

    Args:
        comparison: comparisons of dev.
        vectors: pooled recordings of dev by layer and pooling, (N, D) each.

    Returns:
        The choice, its correlations, and the best score of each layer.
    """
    best: tuple[float, Choice, dict[Key, float]] | None = None
    by_layer: dict[int, float] = {}
    for (layer, pooling), distance in product(vectors, DISTANCES):
        correlations = correlate(comparison, vectors[layer, pooling], distance)
        score = sum(type_mean(correlations, kind) for kind in TYPES) / len(TYPES)
        by_layer[layer] = max(score, by_layer.get(layer, score))
        if best is None or score > best[0]:
            best = score, Choice(layer, pooling, distance), correlations
    assert best is not None, "no vectors to choose from"
    return best[1], best[2], by_layer


def _metrics(comparison: Comparison, correlations: Mapping[Key, float]) -> dict[str, Any]:
    counts = comparison.counts
    return {
        kind: {
            "mean": round(type_mean(correlations, kind), 4),
            "weighted": round(type_mean(correlations, kind, counts), 4),
            "datasets": {
                key[1]: {"correlation": round(value, 4), "pairs": counts[key]}
                for key, value in correlations.items()
                if key[0] == kind
            },
        }
        for kind in TYPES
    }


def pooled(
    source: FeatureSource,
    recordings: Mapping[Key, Path],
    poolings: Sequence[str],
    batch_size: int,
    layer: int | None = None,
) -> dict[tuple[int, str], Vector]:
    """Encode recordings and pool the frames of a layer, or of all.

    Returns:
        By layer and pooling, (N, D) in the order of `recordings`, of single precision.
    """
    found: dict[tuple[int, str], dict[Key, NDArray[np.float32]]] = {}
    for key, states in frames(source, recordings, batch_size):
        for number in range(len(states)) if layer is None else (layer,):
            for pooling in poolings:
                vector = pool(states[number], pooling, "/".join(key)).astype(np.float32)
                found.setdefault((number, pooling), {})[key] = vector
    return {
        name: np.stack([vectors[key] for key in recordings]).astype(np.float64)
        for name, vectors in found.items()
    }


def write_submission(
    folder: Path, source: FeatureSource, data: ZeroSpeech, choice: Choice, batch_size: int = 32
) -> None:
    """Write features for the toolkit: `zrc benchmarks:run sLM21 FOLDER -t semantic` scores them.

        meta.yaml      the submitter; the parts in <> are left to fill in
        params.yaml    how the features are pooled and compared
        semantic/{dev,test}/{librispeech,synthetic}/<filename>.npy    (T, D) float64

    Args:
        folder: folder to write; new or empty.
        source, data, choice, batch_size: as for `measure`, and what it chose.

    Raises:
        ResultError: the folder holds something.
        CorpusError, AudioError: something of the set is missing, or the folder cannot be written.
    """
    from s3prl_speechclip.data.cache import writing

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultError(f"'{folder}' is not empty; name a new folder for the submission")
    meta = read_yaml(META)
    meta["model_info"]["system_description"] = (
        f"{source.system} {source.size}, layer {choice.layer}, features of {data.corpus}, "
        f"SHA-256 of the weights {source.checkpoint_hash or 'none'}"
    )
    chosen = {"metric": choice.distance, "pooling": choice.pooling}
    parameters = {
        "quiet": False,
        "semantic": {**chosen, "librispeech": True, "synthetic": True, "n_jobs": 1},
        # The toolkit takes the semantic task's file type from here.
        "syntactic": {"score_files_type": ".npy"},
    }
    with writing(folder):
        for split in SPLITS:
            recordings = data.split(split).recordings()
            for (kind, name), layers in frames(source, recordings, batch_size):
                path = folder / "semantic" / split / kind / f"{name}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, layers[choice.layer].numpy().astype(np.float64))
        for file, values in (("params.yaml", parameters), ("meta.yaml", meta)):
            (folder / file).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def table(result: TaskResult) -> str:
    """Lay a result out, a dataset a row."""
    rows: list[tuple[str, ...]] = []
    for split in SPLITS:
        for kind, found in result.metrics[split].items():
            datasets = found["datasets"]
            scores = {name: (one["correlation"], one["pairs"]) for name, one in datasets.items()}
            pairs = sum(count for _, count in scores.values())
            scores |= {SCORE: (found["mean"], pairs), "weighted mean": (found["weighted"], pairs)}
            what = split, _shown(kind)
            ends = found.get("interval_95")
            interval = {SCORE: "{:.2f} to {:.2f}".format(*ends)} if ends else {}
            rows += [
                (*what, name, f"{v:.2f}", interval.get(name, ""), f"{n:,}")
                for name, (v, n) in scores.items()
            ]
    chosen = result.metrics["chosen"]
    about = (
        f"chosen on dev: layer {chosen['layer']}, {chosen['pooling']} over frames, "
        f"{chosen['distance']} distance"
    )
    if chosen["layer"] == 0 and result.system != LOG_MEL:
        about += "; layer 0 is the bare encoder's, before its transformer: no branch changes it"
    by_layer = result.metrics["best_on_dev_by_layer"]
    about += "; best on dev by layer: " + ", ".join(f"{n}: {v:.1f}" for n, v in by_layer.items())
    head = ("split", "type", "dataset", "correlation", "95 %", "pairs")
    return titled_table(result, "100 x Spearman's correlation", head, rows, about)


def _shown(text: str) -> str:
    """Name a type as it is: only the official set's natural speech is LibriSpeech's."""
    return text.replace(NATURAL, "natural")


COLUMNS = {
    f"{split}_{prefix}{kind}": (split, kind, name)
    for split, prefix, name in (
        ("dev", "", "mean"),
        ("test", "", "mean"),
        ("test", "weighted_", "weighted"),
    )
    for kind in TYPES
}
"""Leaderboard columns of correlations, and where a result has them."""


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    for column, keys in COLUMNS.items():
        split, kind, name = keys
        ends = result.metrics[split][kind].get("interval_95") if name == "mean" else None
        note = "95 %: {:.1f} to {:.1f}".format(*ends) if ends else ""
        yield Figure(column=column, keys=keys, note=note)
    yield Figure(column="layer", keys=("chosen", "layer"))


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    extra="superb",
    section=Section(
        name="zerospeech",
        title="ZeroSpeech 2021 semantic",
        about="100 x Spearman's correlation of people's scores with negated distances, for natural "
        "speech (the official set's is LibriSpeech's) and synthetic speech. The score is the plain "
        "mean over data sets; weighted: the mean by their numbers of pairs. Layer 0 is the input "
        "of the speech encoder's transformer, which no branch changes.",
        columns=(
            *(
                Column(name=name, title=_shown(name.replace("_", " ")), digits=2)
                for name in COLUMNS
            ),
            Column(name="layer", title="layer chosen on dev", digits=0, merit=False),
        ),
        rank_by="test_synthetic",
        figures=board_figures,
    ),
)
