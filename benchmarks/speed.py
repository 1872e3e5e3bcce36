"""How fast does a model train and encode on this machine?"""

from __future__ import annotations

import copy
import platform
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.results import markdown_table
from s3prl_speechclip.structures import SAMPLE_RATE, PairBatch, TaskResult

from .shared.benchmark import Benchmark, Measured, Trial, add_corpus_options, add_model_options
from .shared.board import Column, Figure, Section

if TYPE_CHECKING:
    from s3prl_speechclip.data.manifest import Manifest
    from s3prl_speechclip.model.speechclip import SpeechClip

SPLIT = "train"
MAX_SAMPLES = 102_400  # that the papers crop recordings to in training, 6.4 s
WARM_UP = 2  # repetitions before those that are timed

PROTOCOL = {
    "batch": f"recordings of {SPLIT} drawn by the seed, cropped at {MAX_SAMPLES} samples, padded "
    "to the longest, and read beforehand",
    "training": "forward, backward and optimiser step; images as their trunk's features",
    "encoding": "forward in evaluation mode, without gradient",
    "time": f"median of the repetitions, after {WARM_UP} that are not timed",
    "times_real_time": "seconds of speech, padding left out, in a second",
    "precision": "fp32",
}


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, splits=False)
    p.add_argument(
        "--repetitions",
        type=int,
        default=10,
        metavar="N",
        help="timed repetitions of each (default: %(default)s)",
    )
    p.add_argument(
        "--seed", type=int, default=0, metavar="N", help="chooses the recordings (default: 0)"
    )


def run(args: Namespace) -> Measured:
    """Time training steps and encoding of one batch; the model is left as it is.

    Raises:
        ConfigError: a number below 1.
        AudioError, ImageError: something of the corpus cannot be read.
    """
    from s3prl_speechclip.pretrain.train import PretrainStep
    from s3prl_speechclip.runtime.optimization import OptimizerConfig, build_optimizer

    if args.batch_size < 1 or args.repetitions < 1:
        raise ConfigError(
            "--batch-size and --repetitions must be at least 1, found "
            f"{args.batch_size} and {args.repetitions}"
        )
    trial = Trial(args)
    model = trial.model
    device = model.clip.vocabulary.device
    batch = _batch(model, trial.manifest, args.batch_size, args.seed).to(device)
    seconds = float(batch.speech.lengths.sum()) / SAMPLE_RATE
    trained = copy.deepcopy(model).train()
    train_step = PretrainStep(trained)
    optimizer = build_optimizer(OptimizerConfig(), trained.parameters())

    def step() -> None:
        train_step(batch, 0).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def encode() -> None:
        with torch.no_grad():
            model(batch.speech)

    torch.manual_seed(args.seed)
    training = _median_time(step, args.repetitions, device)
    model.eval()
    encoding = _median_time(encode, args.repetitions, device)
    recordings = len(batch.pair_ids)
    metrics = {
        "training": {
            "examples_per_second": _digits(recordings / training),
            "seconds_per_step": _digits(training),
        },
        "encoding": {
            "recordings_per_second": _digits(recordings / encoding),
            "times_real_time": _digits(seconds / encoding),
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
    """Lay a result out, a figure a row."""
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


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result, under the name of the machine."""
    device = str(result.protocol.get("device", "unknown device"))
    for column, keys in (
        ("train", ("training", "examples_per_second")),
        ("encode", ("encoding", "recordings_per_second")),
        ("real_time", ("encoding", "times_real_time")),
    ):
        yield Figure(column=column, keys=keys, corpus=device)


def _batch(model: SpeechClip, manifest: Manifest, batch_size: int, seed: int) -> PairBatch:
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


def _median_time(work: Callable[[], Any], repetitions: int, device: torch.device) -> float:
    """Return the median seconds of one piece of work."""
    times = []
    for number in range(WARM_UP + repetitions):
        _wait_for(device)
        start = time.perf_counter()
        work()
        _wait_for(device)
        if number >= WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _digits(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    section=Section(
        name="speed",
        title="Speed",
        about="On the machine that the corpus column names.",
        columns=(
            Column(name="train", title="training, examples/s"),
            Column(name="encode", title="encoding, recordings/s"),
            Column(name="real_time", title="encoding, x real time"),
        ),
        rank_by="encode",
        figures=board_figures,
    ),
)
