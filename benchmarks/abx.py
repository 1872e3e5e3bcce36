"""Are phones told apart, within and across speakers (ZeroSpeech 2021 phonetic)?

The error of every layer is measured on dev; test is measured once, with the best of them.
"""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from s3prl_speechclip.data.corpora.zerospeech import SPEECH, SPLITS, ZeroSpeech, load_phonetic
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.structures import TaskResult

from .shared.benchmark import Benchmark, Measured, titled_table
from .shared.board import Column, Figure, Section
from .shared.encoding import FeatureSource, add_source_options, check_source, find_source, frames

if TYPE_CHECKING:
    from .formulas.abx_scores import Plan

    Plans = Mapping[str, Plan]
    """Of `SPEAKERS`."""

SPEAKERS = ("within", "across")
MOST_ITEMS, MOST_SPEAKERS = 10, 5
"""Limits of items of a kind in a cell and of speakers of X, as ZeroSpeech 2021 has them."""
PROTOCOL = {
    "error": "ABX error in percent, chance 50; mean over contexts, speakers, pairs of phones",
    "distance": "mean angle between frames along the path of dynamic time warping",
    "items": f"at most {MOST_ITEMS} of a phone by a speaker in a context, X by at most "
    f"{MOST_SPEAKERS} other speakers; drawn with seed 0",
    "frames": "those whose middle lies between onset and offset, the last included",
    "chosen": "the layer with the lowest mean on dev over clean, other, within and across; test is "
    "measured once, with this",
}


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_source_options(p, "phonetic")


def run(args: Namespace) -> Measured:
    """Measure the ABX error of a system.

    Raises:
        CorpusError, AudioError: something of the set is missing or cannot be read.
        ResultError: a feature is not a number, or no triphones can be compared.
    """
    check_source(args)  # before a mini set is made
    data = load_phonetic(args.data_root, args.archive)
    source = find_source(args)
    return Measured(measure(source, data, args.batch_size, args.device))


def measure(
    source: FeatureSource, data: ZeroSpeech, batch_size: int = 32, device: str = "auto"
) -> TaskResult:
    """Measure features on a phonetic set: all layers on dev, the best one on test."""
    started = time.perf_counter()
    by_layer: dict[int, dict[str, dict[str, float]]] = {}
    for speech in SPEECH:
        for layer, found in errors(source, data, f"dev-{speech}", batch_size, device).items():
            by_layer.setdefault(layer, {})[speech] = found
    chosen = min(by_layer, key=lambda layer: _mean(by_layer[layer]))
    test = {
        speech: errors(source, data, f"test-{speech}", batch_size, device, chosen)[chosen]
        for speech in SPEECH
    }
    metrics = {
        "chosen": {"layer": chosen},
        "dev": by_layer[chosen],
        "test": test,
        "dev_by_layer": {str(layer): found for layer, found in by_layer.items()},
    }
    return source.record("abx", data, started, metrics, PROTOCOL)


def _mean(found: Mapping[str, Mapping[str, float]]) -> float:
    return sum(found[speech][kind] for speech in SPEECH for kind in SPEAKERS) / 4


def errors(
    source: FeatureSource,
    data: ZeroSpeech,
    subset: str,
    batch_size: int,
    device: str,
    only: int | None = None,
) -> dict[int, dict[str, float]]:
    """Compute the errors in percent, within and across speakers, by layer.

    Args:
        source: system.
        data: phonetic set.
        subset: one of its subsets.
        batch_size: recordings encoded at once.
        device: device of the distances.
        only: the only layer; None: all.
    """
    import torch

    from s3prl_speechclip.data.cache import cache_home, writing
    from s3prl_speechclip.data.layer_files import LayerFiles
    from s3prl_speechclip.runtime.devices import find_device

    from .formulas.abx_scores import abx_error, pair_distances, plan

    items = data.items(subset)
    paths = {("", item.file): data.recording(subset, item.file) for item in items}
    plans = {
        kind: plan(
            items,
            across=kind == "across",
            most_items=MOST_ITEMS,
            most_speakers=MOST_SPEAKERS,
        )
        for kind in SPEAKERS
    }
    where = find_device(device)
    found: dict[int, dict[str, float]] = {}
    # All layers of the official dev-clean take some 40 GB.
    with writing(cache_home()), LayerFiles(cache_home()) as files:
        firsts, total = {}, 0
        for (_, file), states in frames(source, paths, batch_size):
            chosen = dict(enumerate(states)) if only is None else {only: states[only]}
            for layer, state in chosen.items():
                if not state.isfinite().all():
                    raise ResultError(f"layer {layer} of '{file}' has values that are no numbers")
            files.add(chosen)
            firsts[file] = total, len(states[0])
            total += len(states[0])
        spans = [span(i.onset, i.offset, source.rate, firsts[i.file][1]) for i in items]
        starts = [firsts[i.file][0] + first for i, (first, _) in zip(items, spans, strict=True)]
        place = torch.tensor([starts, [stop - first for first, stop in spans]]).to(where)
        for layer in files.layers:
            stacked = files.read(layer).to(where)
            for kind, own in plans.items():
                error = abx_error(own, pair_distances(stacked, place[0], place[1], own.pairs))
                found.setdefault(layer, {})[kind] = round(100 * error, 4)
    return found


def span(onset: float, offset: float, rate: float, total: int) -> tuple[int, int]:
    """Return the first frame of an interval and the one after its last, of `total` frames.

    Frame k stands for the time (k + 0.5) / rate. An interval shorter than a frame has the nearest
    one.
    """
    # Rounded: 0.07 x 50 is a little more than 3.5.
    first = math.ceil(round(onset * rate - 0.5, 6))
    stop = min(math.floor(round(offset * rate - 0.5, 6)) + 1, total)
    first = min(max(0, first), total - 1)
    return first, max(first + 1, stop)


def table(result: TaskResult) -> str:
    """Lay a result out, a kind of speech a row, then the layers on dev."""
    rows = [
        (f"{split}, {result.metrics['chosen']['layer']}", speech, *_shown(found[speech]))
        for split in SPLITS
        for found in (result.metrics[split],)
        for speech in SPEECH
    ]
    rows += [
        (f"dev, {layer}", speech, *_shown(found[speech]))
        for layer, found in result.metrics["dev_by_layer"].items()
        for speech in SPEECH
    ]
    about = f"chosen on dev: layer {result.metrics['chosen']['layer']}; chance is 50"
    head = ("split, layer", "speech", *(f"{kind} speakers" for kind in SPEAKERS))
    return titled_table(result, "ABX error in percent", head, rows, about)


def _shown(found: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{found[kind]:.2f}" for kind in SPEAKERS)


COLUMNS = {
    f"{split}_{speech}_{kind}": (split, speech, kind)
    for split in SPLITS
    for speech in SPEECH
    for kind in SPEAKERS
}
"""Leaderboard columns of errors, and where a result has them."""


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    for column, keys in COLUMNS.items():
        yield Figure(column=column, keys=keys)
    yield Figure(column="layer", keys=("chosen", "layer"))


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    extra="superb",
    section=Section(
        name="abx",
        title="ZeroSpeech 2021 phonetic",
        about="ABX error in percent, on clean and other speech, within and across speakers; a "
        "guess has 50. Of the measured systems the layer that is best on dev.",
        columns=(
            *(Column(name=name, digits=2, lower_is_better=True) for name in COLUMNS),
            Column(name="layer", title="layer chosen on dev", digits=0, merit=False),
        ),
        rank_by="test_clean_across",
        figures=board_figures,
    ),
)
