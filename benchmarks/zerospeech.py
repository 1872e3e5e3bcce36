"""Do distances between spoken words follow their meanings (ZeroSpeech 2021 semantic)?

Layer, pooling and distance are chosen on dev; test is measured once, with these.
"""

from __future__ import annotations

import logging
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.data.corpora.zerospeech import NATURAL, SPLITS, TYPES, SemanticSet
from s3prl_speechclip.errors import ConfigError, ResultError, unknown_name
from s3prl_speechclip.model.config import ENCODER, VARIANTS
from s3prl_speechclip.results import result_record
from s3prl_speechclip.structures import HOP, SAMPLE_RATE, TaskResult

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
from .shared.benchmark import Benchmark, Measured, add_model_options, load_model, titled_table
from .shared.board import Column, Figure, Section

if TYPE_CHECKING:
    from torch import Tensor, nn

    Layers = tuple[Tensor, ...]
    """(T, D) each, on the CPU."""

__all__ = ["BENCHMARK", "semantic_correlations"]

logger = logging.getLogger(__name__)

SCORE = "mean (the score)"
LOG_MEL = "log_mel"
"""Name of the spectral baseline."""
BANDS = 80
WINDOW, STEP = 400, 160  # samples, 25 ms and 10 ms at 16 kHz
FLOOR = 1e-6  # of the power that the logarithm is taken of; -60 dB of a full-scale sine's
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
    "layers": "0: input of the transformer; then the output of each layer, then the branch's own",
    "precision": "fp32",
}


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """A system that turns recordings into features."""

    system: str
    size: str = ""
    checkpoint: str = ""
    checkpoint_hash: str = ""
    rate: float = SAMPLE_RATE / HOP
    """Frames a second."""
    encode: Callable[[Sequence[Tensor]], list[Layers]]
    """Layers of each recording, (L,) float32 at 16 kHz."""


@dataclass(frozen=True)
class Choice:
    """How a recording becomes a vector, and vectors are compared."""

    layer: int
    pooling: str
    distance: str


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p, f"; {ENCODER}: the speech encoder alone; {LOG_MEL}: the spectral baseline")
    p.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder that holds ZeroSpeech 2021's semantic/ (default: a mini set, built at its "
        "first use)",
    )
    p.add_argument("--archive", metavar="FILE", help="Debian packages (.deb) of the mini set")
    p.add_argument(
        "--submission",
        type=Path,
        metavar="DIR",
        help="also write the files that the official toolkit reads",
    )


def run(args: Namespace) -> Measured:
    """Measure the semantic score of a system.

    Raises:
        CorpusError, AudioError: something of the set is missing or cannot be read.
        ResultError: a feature is not a number, or a dataset has no correlation.
    """
    from s3prl_speechclip.data.corpora.zerospeech import load_set

    source = find_source(args)
    data = load_set(args.data_root, args.archive)
    result, chosen = measure(source, data, args.batch_size)

    def write_beside(path: Path) -> None:
        if args.submission:
            write_submission(Path(args.submission), source, data, chosen, args.batch_size)
            logger.info("submission: %s", args.submission)

    return Measured(result, write_beside)


def measure(
    source: FeatureSource, data: SemanticSet, batch_size: int = 32
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
    result = result_record(
        started=started,
        task="zerospeech",
        system=source.system,
        size=source.size,
        corpus=data.corpus,
        checkpoint=source.checkpoint,
        checkpoint_hash=source.checkpoint_hash,
        metrics={
            "chosen": asdict(chosen),
            "dev": _metrics(comparisons["dev"], dev),
            "test": test,
            "best_on_dev_by_layer": {str(layer): round(v, 4) for layer, v in by_layer.items()},
        },
        protocol={**PROTOCOL, "poolings": list(SEARCHED_POOLINGS), "notes": list(data.notes)},
        seed=0,
        mini=data.mini or source.size == "mini",
    )
    return result, chosen


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


def find_source(args: Namespace) -> FeatureSource:
    """Return the system that the options name."""
    name, given = args.upstream, args.upstream_ckpt
    if name == LOG_MEL:
        if given:
            raise ConfigError(f"{LOG_MEL} has no checkpoint; leave -k out")
        return spectral_source()
    if name == ENCODER:
        from s3prl_speechclip.runtime.devices import find_device
        from s3prl_speechclip.upstream.speechclip.expert import UpstreamExpert

        expert = UpstreamExpert(given, name=name)
        located, model = expert.located, expert.model.to(find_device(args.device))
        return _source(name, expert.size, located.source, located.digest(), model)
    if name is not None and name not in VARIANTS:
        raise ConfigError(unknown_name("upstream", name, (*VARIANTS, ENCODER, LOG_MEL)))
    model, checkpoint, digest = load_model(args)
    return _source(model.config.variant, model.config.size, checkpoint, digest, model)


def spectral_source() -> FeatureSource:
    """Return logarithmic mel spectra: one layer of 80 bands every 10 ms."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=STEP, n_mels=BANDS)

    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        padded = [torch.nn.functional.pad(w, (0, max(0, WINDOW - len(w)))) for w in waveforms]
        return [((mel(waveform) + FLOOR).log().T,) for waveform in padded]

    return FeatureSource(system=LOG_MEL, rate=SAMPLE_RATE / STEP, encode=encode)


def _source(
    system: str, size: str, checkpoint: str, digest: str, model: nn.Module
) -> FeatureSource:
    """Return all hidden states of a model."""
    import torch

    from s3prl_speechclip.modules.padding import pad_waveforms

    device = next(model.parameters()).device

    @torch.no_grad()
    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        output = model(pad_waveforms(waveforms).to(device))
        states = [state.float().cpu() for state in output.hidden_states]
        return [
            tuple(state[row, :length] for state in states)
            for row, length in enumerate(output.lengths.tolist())
        ]

    return FeatureSource(
        system=system, size=size, checkpoint=checkpoint, checkpoint_hash=digest, encode=encode
    )


def frames(
    source: FeatureSource, recordings: Mapping[Key, Path], batch_size: int
) -> Iterator[tuple[Key, Layers]]:
    """Encode recordings in batches of similar length, not in their order."""
    import torch

    from s3prl_speechclip.data.audio import audio_info, read_audio

    seconds = {key: audio_info(path).duration for key, path in recordings.items()}
    order = sorted(recordings, key=lambda key: (seconds[key], key))
    with tqdm(total=len(order), desc=source.system, unit="recording", disable=None) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            waveforms = [torch.from_numpy(read_audio(recordings[key])) for key in batch]
            yield from zip(batch, source.encode(waveforms), strict=True)
            bar.update(len(batch))


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
    folder: Path, source: FeatureSource, data: SemanticSet, choice: Choice, batch_size: int = 32
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
