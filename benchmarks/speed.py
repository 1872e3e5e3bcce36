"""Speed of training, probing and scoring, beside plain formulas and s3prl's runner.

With `-u` or `-k`: how fast that model trains and encodes.
"""

from __future__ import annotations

import copy
import logging
import platform
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.options import add_option
from s3prl_speechclip.results import markdown_table, result_record
from s3prl_speechclip.structures import SAMPLE_RATE, PairBatch, TaskResult

from .shared.benchmark import Benchmark, Measured, Trial, add_corpus_options, add_model_options
from .shared.board import Column, Figure, Section

if TYPE_CHECKING:
    import torch

    from s3prl_speechclip.data.manifest import Manifest
    from s3prl_speechclip.model.speechclip import SpeechClip

logger = logging.getLogger(__name__)

SPLIT = "train"
MAX_SAMPLES = 102_400  # that the papers crop recordings to in training, 6.4 s
WARM_UP = 2  # repetitions before those that are timed

COMPARED = "s3prl_speechclip"
"""System of a result that holds comparisons."""
PROTOCOL = {
    "batch": f"recordings of {SPLIT} drawn by the seed, cropped at {MAX_SAMPLES} samples, padded "
    "to the longest, and read beforehand",
    "training": "forward, backward and optimiser step; images as their trunk's features",
    "encoding": "forward in evaluation mode, without gradient",
    "time": f"median of the repetitions, after {WARM_UP} that are not timed",
    "times_real_time": "seconds of speech, padding left out, in a second",
    "precision": "fp32",
}


@dataclass(frozen=True)
class Goal:
    """The bound that the ratio of a comparison's sides should keep."""

    unit: str
    ratio: float
    at_most: bool = False
    """Whether the goal bounds the ratio from above."""


GOALS = {
    "quantiser": Goal("seconds a batch", 500),
    "hybrid_plus_step": Goal("seconds a batch", 1.15, at_most=True),
    "ic_step": Goal("seconds a batch", 1000),
    "ic_run_500": Goal("seconds", 10),
    "ic_run_2000": Goal("seconds", 25),
    "qbe_pair": Goal("milliseconds a pair", 20),
    "recall_25k_5k": Goal("seconds", 1),
    "busy_core": Goal("examples a second", 3, at_most=True),
    "superb_mini_minutes": Goal("minutes", 5, at_most=True),
}
"""By a comparison's key in result files; `peers/comparisons.py` measures them."""


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    p.set_defaults(upstream=None)
    add_corpus_options(p, splits=False)
    add_option(
        p,
        "--repetitions N",
        "how often each is measured (default: 10 for a model, 3 for a comparison)",
    )
    add_option(
        p,
        "--against-s3prl PYTHON",
        "Python of an environment in which s3prl's own runner starts; 'python -m "
        "s3prl_speechclip.benchmarks.peers.runner FOLDER' makes one",
    )
    add_option(
        p,
        "--only KEY",
        f"comparison to make; may be given again (default: all): {', '.join(GOALS)}",
        action="append",
        choices=GOALS,
    )
    p.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of forward passes in comparisons (default: %(default)s)",
    )
    add_option(
        p,
        "--seconds S",
        "length of recordings in comparisons (default: %(default)s)",
        type=float,
        default=2.3,
    )
    add_option(
        p, "--openmp", "measure busy_core under several settings of OpenMP's waiting threads"
    )
    add_option(p, "--seed N", "chooses the recordings (default: 0)", default=0)


def run(args: Namespace) -> Measured:
    """Time a model where one is named, else make the comparisons.

    Raises:
        ConfigError: a number below 1, or a command that failed.
        AudioError, ImageError: something of the corpus cannot be read.
    """
    if args.repetitions is None:
        model_named = args.upstream or args.upstream_ckpt
        args.repetitions = 10 if model_named else 3
    if args.batch_size < 1 or args.repetitions < 1 or args.seconds <= 0:
        raise ConfigError(
            "--batch-size and --repetitions must be at least 1, and --seconds above 0; found "
            f"{args.batch_size}, {args.repetitions} and {args.seconds:g}"
        )
    return _time_model(args) if args.upstream or args.upstream_ckpt else _compare(args)


def _compare(args: Namespace) -> Measured:
    import torch

    from s3prl_speechclip.runtime.devices import find_device

    started = time.perf_counter()
    args.device = device = find_device(args.device)
    torch.manual_seed(args.seed)
    metrics: dict[str, Any] = {}
    for key in GOALS:
        if args.only and key not in args.only:
            metrics[key] = dict.fromkeys(("ours", "theirs", "ratio", "goal", "unit"))
            metrics[key]["reason"] = "not chosen by --only"
        else:
            metrics[key] = _compared(key, args)
            logger.info("%s: %s", key, metrics[key])
    protocol = {
        "batch_size": args.batch_size,
        "seconds_of_speech": args.seconds,
        "repetitions": args.repetitions,
        "precision": args.precision,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "ratio": "median over repetitions that alternate; goals name their direction",
    }
    return Measured(
        result_record(
            started=started,
            task="speed",
            system=COMPARED,
            size="",
            corpus=_device_name(device),
            checkpoint="",
            checkpoint_hash="",
            metrics=metrics,
            protocol=protocol,
            seed=args.seed,
            mini=False,
        )
    )


def _compared(key: str, args: Namespace) -> dict[str, Any]:
    """Measure both sides of a comparison; returns what result files hold."""
    from .peers.comparisons import MEASURES, peak_memory, rounded, start_peak_memory

    measure, goal = MEASURES[key], GOALS[key]
    start_peak_memory(args.device)
    found = measure(args)
    sides = {name: found.pop(name) for name in ("ours", "theirs", "ratio")}
    ratio = sides["ratio"]
    return {
        **{name: rounded(value) for name, value in sides.items()},
        "goal": goal.ratio,
        "goal_is": "at most" if goal.at_most else "at least",
        "met": None if ratio is None else (ratio <= goal.ratio) == goal.at_most,
        "unit": goal.unit,
        "compared": str(measure.__doc__).partition("\n")[0],
        "peak_mib": peak_memory(args.device),
        **found,
    }


def _time_model(args: Namespace) -> Measured:
    """Time training steps and encoding of one batch; the model is left as it is."""
    import torch

    from .peers.comparisons import rounded, side_by_side, training_step

    trial = Trial(args)
    model = trial.model
    args.device = device = model.clip.vocabulary.device
    batch = _batch(model, trial.manifest, args.batch_size, args.seed).to(device)
    seconds = float(batch.speech.lengths.sum()) / SAMPLE_RATE

    @torch.no_grad()
    def encode() -> None:
        model(batch.speech)

    torch.manual_seed(args.seed)
    step = training_step(copy.deepcopy(model), batch)
    times = side_by_side(args, WARM_UP, training=step, encoding=encode)
    training, encoding = (statistics.median(times[name]) for name in ("training", "encoding"))
    recordings = len(batch.pair_ids)
    metrics = {
        "training": {
            "examples_per_second": rounded(recordings / training),
            "seconds_per_step": rounded(training),
        },
        "encoding": {
            "recordings_per_second": rounded(recordings / encoding),
            "times_real_time": rounded(seconds / encoding),
        },
    }
    protocol = {
        **PROTOCOL,
        "batch_size": recordings,
        "seconds_of_speech": round(seconds, 2),
        "repetitions": args.repetitions,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }
    return Measured(trial.record("speed", metrics, protocol, args.seed))


def table(result: TaskResult) -> str:
    """Lay a result out, a figure or a comparison a row."""
    if result.system == COMPARED:
        shown = ("ours", "theirs", "ratio", "goal")
        lines = [
            (
                key,
                *("-" if found[name] is None else f"{found[name]:g}" for name in shown),
                str(found["unit"] or ""),
                found.get("reason") or f"goal is {found['goal_is']} that ratio",
            )
            for key, found in result.metrics.items()
        ]
        return markdown_table(("key", *shown, "unit", "about"), lines)
    rows = [
        (what, name.replace("_", " "), f"{value:g}")
        for what, found in result.metrics.items()
        for name, value in found.items()
    ]
    about = result.protocol
    title = (
        f"{result.system} ({result.size}), {about['batch_size']} recordings at once, "
        f"{about['device']}, {about['threads']} thread(s)"
    )
    return "\n".join([title, "", markdown_table(("what", "figure", "value"), rows)])


def waiting_table(result: TaskResult) -> str:
    """Lay out training beside a busy process and alone, a setting of OpenMP a row."""
    rates = result.metrics["busy_core"]["beside_and_alone_by_setting"]
    rows = [(setting, f"{beside:g}", f"{alone:g}") for setting, (beside, alone) in rates.items()]
    return markdown_table(("threads", "beside a busy process", "alone"), rows)


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result, under the name of the machine."""
    if result.system == COMPARED:
        for key, found in result.metrics.items():
            if found["ratio"] is not None:
                yield Figure(column=key, keys=(key, "ratio"))
        return
    device = str(result.protocol.get("device", "unknown device"))
    for column, keys in (
        ("train", ("training", "examples_per_second")),
        ("encode", ("encoding", "recordings_per_second")),
        ("real_time", ("encoding", "times_real_time")),
    ):
        yield Figure(column=column, keys=keys, corpus=device)


def _batch(model: SpeechClip, manifest: Manifest, batch_size: int, seed: int) -> PairBatch:
    import numpy as np
    import torch

    from s3prl_speechclip.data.batches import PairDataset
    from s3prl_speechclip.data.images import open_image

    utterances = manifest.split(SPLIT)
    dataset = PairDataset(manifest, utterances, max_samples=MAX_SAMPLES, seed=seed)
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(utterances))[:batch_size].tolist()
    batch, _ = dataset.read(chosen)
    assert batch is not None, "nothing is dropped"
    transform = model.clip.preprocess()
    pixels = [transform(open_image(manifest.path(utterances[index].image))) for index in chosen]
    features = model.clip.image_features(torch.stack(pixels).to(model.clip.vocabulary.device))
    return replace(batch, images=features)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    section=Section(
        name="speed",
        title="Speed",
        about="On the machine that the corpus column names. Columns after the first three are "
        "ratios to another program or a plain formula, see `benchmarks/peers/comparisons.py`.",
        columns=(
            Column(name="train", title="training, examples/s"),
            Column(name="encode", title="encoding, recordings/s"),
            Column(name="real_time", title="encoding, x real time"),
            *(Column(name=key, lower_is_better=goal.at_most) for key, goal in GOALS.items()),
        ),
        rank_by="encode",
        figures=board_figures,
    ),
)
