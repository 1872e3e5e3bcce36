"""How fast a model trains and encodes here, on real recordings."""

from __future__ import annotations

import copy
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s3prl_speechclip.checkpoints.locate import Located
from s3prl_speechclip.data.batches import PairDataset
from s3prl_speechclip.data.images import open_image
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.pretrain.task import PretrainTask
from s3prl_speechclip.results import result_record
from s3prl_speechclip.runtime.optimization import OptimizerConfig, build_optimizer
from s3prl_speechclip.structures import SAMPLE_RATE, PairBatch, TaskResult

SPLIT = "train"
MAX_SAMPLES = 102_400  # that the papers crop recordings to in training, 6.4 s
WARM_UP = 2  # repetitions that are not timed

PROTOCOL = {
    "batch": f"recordings of {SPLIT} drawn by the seed, cropped at {MAX_SAMPLES} samples, padded "
    "to the longest, and read beforehand",
    "training": "forward, backward and optimiser step; images as their trunk's features",
    "encoding": "forward in evaluation mode, without gradient",
    "time": f"median of the repetitions, after {WARM_UP} that are not timed",
    "times_real_time": "seconds of speech, padding left out, in a second",
    "precision": "fp32",
}


def evaluate_speed(
    model: SpeechClip,
    located: Located,
    manifest: Manifest,
    *,
    batch_size: int = 32,
    repetitions: int = 10,
    seed: int = 0,
) -> TaskResult:
    """Measure training steps and encoding of one batch.

    Args:
        model: on the device to measure; it is left as it is.
        located: where the model came from.
        manifest: the corpus that the batch is drawn from.
        batch_size: recordings.
        repetitions: timed, of each.
        seed: chooses the recordings.

    Raises:
        ConfigError: a number below 1.
        AudioError, ImageError: something of the corpus cannot be read.
    """
    if batch_size < 1 or repetitions < 1:
        raise ConfigError(
            "--batch-size and --repetitions must be at least 1, found "
            f"{batch_size} and {repetitions}"
        )
    started = time.perf_counter()
    device = model.clip.vocabulary.device
    batch = _batch(model, manifest, batch_size, seed).to(device)
    seconds = float(batch.speech.lengths.sum()) / SAMPLE_RATE
    trained = copy.deepcopy(model).train()
    task = PretrainTask(trained)
    optimizer = build_optimizer(OptimizerConfig(), trained.parameters())

    def step() -> None:
        task.losses(batch, 0).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def encode() -> None:
        with torch.no_grad():
            model(batch.speech)

    torch.manual_seed(seed)
    training = _median_time(step, repetitions, device)
    model.eval()
    encoding = _median_time(encode, repetitions, device)
    recordings = len(batch.pair_ids)
    return result_record(
        started=started,
        task="speed",
        system=model.config.variant,
        size=model.config.size,
        corpus=manifest.corpus,
        checkpoint=located.source,
        checkpoint_hash=located.digest(),
        metrics={
            "training": {
                "examples_per_second": _digits(recordings / training),
                "seconds_per_step": _digits(training),
            },
            "encoding": {
                "recordings_per_second": _digits(recordings / encoding),
                "times_real_time": _digits(seconds / encoding),
            },
        },
        protocol={
            **PROTOCOL,
            "batch_size": recordings,
            "seconds_of_speech": round(seconds, 2),
            "repetitions": repetitions,
            "device": _device_name(device),
            "threads": torch.get_num_threads(),
            "notes": list(manifest.notes),
        },
        seed=seed,
        mini=manifest.mini or model.config.size == "mini",
    )


def _batch(model: SpeechClip, manifest: Manifest, batch_size: int, seed: int) -> PairBatch:
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
    """Give the median seconds of one piece of work."""
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
    """Keep four significant digits."""
    return float(f"{value:.4g}")
