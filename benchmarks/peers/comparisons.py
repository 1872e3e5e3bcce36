"""Speed comparisons with a plain formula or another program on the same data.

A comparison takes the options of `run_benchmark.py speed`, its device found, and returns the
figures of both sides and their ratio, the median over repetitions in which the sides alternate.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3prl_speechclip.structures import SAMPLE_RATE, PairBatch, SpeechBatch, SpeechFeatures

from .runner import OPENMP, run_command, run_s3prl, without_openmp, write_mini_hubert

if TYPE_CHECKING:
    from s3prl_speechclip.model.speechclip import SpeechClip

WAITING: Mapping[str, Mapping[str, str]] = {
    "library default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {n}": {"GOMP_SPINCOUNT": str(n)} for n in (1_000, 10_000, 100_000, 1_000_000)},
}
"""Ways in which OpenMP's threads wait for each other."""


def rounded(value: float | None) -> float | None:
    """Round to four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def start_peak_memory(device: torch.device) -> None:
    """Measure the peak of memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # not on every system, nor in every container
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory in use since `start_peak_memory`, MiB; None where nothing tells it."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    status = Path("/proc/self/status")
    text = status.read_text(encoding="ascii") if status.exists() else ""
    found = re.search(r"VmHWM:\s*(\d+) kB", text)
    return round(int(found.group(1)) / 1024) if found else None


def side_by_side(
    args: Namespace, warm_up: int = 1, **works: Callable[[], Any]
) -> dict[str, list[float]]:
    """Time pieces of work in turn, so that what else the machine does meets all of them.

    Returns:
        Seconds of each by its name, a number a repetition.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warm_up + args.repetitions):
        for name, work in works.items():
            seconds = timed(work, args.device)
            if number >= warm_up:
                times[name].append(seconds)
    return times


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one piece of work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the medians of `ours` and `theirs`, and how many times as fast ours is."""
    medians = {name: statistics.median(times[name]) for name in ("ours", "theirs")}
    pairs = zip(times["theirs"], times["ours"], strict=True)
    ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    return {**medians, "ratio": ratio, "repetitions": len(times["ours"])}


def compare_quantisers(args: Namespace) -> dict[str, Any]:
    """Compare the quantiser with a broadcast cosine, as the official code's."""
    from s3prl_speechclip.model.config import KeywordConfig
    from s3prl_speechclip.modules.quantizer import CosineQuantizer

    keywords = torch.randn(args.batch_size, 8, 512, device=args.device)
    codebook = torch.randn(8112, 512, device=args.device)  # of the released Flickr8k models
    banned = torch.tensor([0], device=args.device)
    own = CosineQuantizer(KeywordConfig()).to(args.device).eval()

    def broadcast() -> Tensor:
        each = [
            F.cosine_similarity(one[:, :, None], codebook.T, dim=1) for one in keywords.unbind(1)
        ]
        return torch.stack(each, dim=1).index_fill(-1, banned, -torch.inf).argmax(-1)

    return compare(
        side_by_side(
            args, ours=lambda: own(keywords, codebook, banned), theirs=broadcast, warm_up=0
        )
    )


def compare_recall(args: Namespace) -> dict[str, Any]:
    """Compare exact ranks of 25,000 captions and 5,000 images with a sort of all scores."""
    from s3prl_speechclip.modules.recall import recall_at_k

    speech = F.normalize(torch.randn(25_000, 512, device=args.device), dim=-1)
    images = F.normalize(torch.randn(5_000, 512, device=args.device), dim=-1)
    speech_ids, image_ids = torch.arange(25_000) % 5_000, torch.arange(5_000)

    def sort() -> None:
        scores = speech @ images.T
        for side, ids, right in (
            (scores, image_ids, speech_ids),
            (scores.T, speech_ids, image_ids),
        ):
            hits = ids[side.argsort(dim=1, descending=True).cpu()] == right[:, None]
            _ = [hits[:, :k].any(1).float().mean() for k in (1, 5, 10)]

    def rank() -> None:
        recall_at_k(speech, images, speech_ids, image_ids)

    return compare(side_by_side(args, ours=rank, theirs=sort, warm_up=0))


def compare_alignments(args: Namespace) -> dict[str, Any]:
    """Compare an alignment of 50 and 350 frames of 768 with dtw-python's."""
    from scipy.spatial.distance import cdist

    from s3prl_speechclip.downstream.compat import quiet
    from s3prl_speechclip.downstream.detection import find_distance, match_costs

    with quiet():  # it greets on standard output
        from dtw import dtw
    queries = [torch.randn(50, 768) for _ in range(32)]
    documents = [torch.randn(350, 768) for _ in range(30)]
    there, others = ([frames.to(args.device) for frames in side] for side in (queries, documents))

    def together() -> Tensor:
        return match_costs(there, others, find_distance("cosine_exp"), True)

    def one_by_one(count: int = 10) -> Tensor:
        costs = []
        for document in documents[:count]:
            distances = np.exp(cdist(queries[0].numpy(), document.numpy(), "cosine")) - 1
            low, high = distances.min(1, keepdims=True), distances.max(1, keepdims=True)
            distances = (distances - low) / np.clip(high - low, 1e-9, np.inf)
            found = dtw(x=distances, step_pattern="asymmetric", open_begin=True, open_end=True)
            costs.append(found.normalizedDistance)
        return torch.tensor(costs)

    difference = float((together()[0, :10] - one_by_one()).abs().max())
    times = side_by_side(args, ours=together, theirs=one_by_one)
    pairs = {"ours": 32 * 30, "theirs": 10}
    each = {name: [1000 * s / pairs[name] for s in seconds] for name, seconds in times.items()}
    return {**compare(each), "difference": difference}


def base_model(args: Namespace, variant: str = "speechclip_hybrid_plus") -> SpeechClip:
    """Build a model of base size with random weights."""
    from s3prl_speechclip.encoders.vocabulary import find_vocabulary
    from s3prl_speechclip.model.config import ClipConfig, ModelConfig, SpeechEncoderConfig
    from s3prl_speechclip.model.speechclip import SpeechClip

    encoder = SpeechEncoderConfig(pretrained=False, architecture={"model_type": "hubert"})
    clip = ClipConfig(pretrained="", quick_gelu=True)
    config = ModelConfig(variant=variant, speech_encoder=encoder, clip=clip)
    return SpeechClip(config, find_vocabulary("flickr8k")).to(args.device)


def noise(count: int, seconds: float) -> SpeechBatch:
    """Make recordings of one length."""
    samples = int(seconds * SAMPLE_RATE)
    return SpeechBatch(0.1 * torch.randn(count, samples), torch.full((count,), samples))


def training_step(
    model: SpeechClip, batch: PairBatch, precision: str = "fp32"
) -> Callable[[], None]:
    """Return a function that takes one step: forward, backward, and the optimiser's."""
    from s3prl_speechclip.pretrain.step import PretrainStep
    from s3prl_speechclip.runtime.optimization import OptimizerConfig, build_optimizer

    step = PretrainStep(model.train())
    optimizer = build_optimizer(OptimizerConfig(), model.parameters())

    def take() -> None:
        with torch.autocast(batch.images.device.type, torch.bfloat16, precision == "bf16"):
            loss = step(batch, 0).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return take


@torch.no_grad()
def with_images(model: SpeechClip, speech: SpeechBatch | SpeechFeatures) -> PairBatch:
    """Return a batch of recordings, each with an image's features, random."""
    count, device = len(speech.lengths), speech.lengths.device
    size: Any = model.clip.clip.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    trunk = model.clip.image_features(torch.zeros(2, 3, height, width, device=device)).shape[1]
    images = torch.randn(count, trunk, device=device)
    return PairBatch(speech, images, torch.arange(count, device=device))


def compare_pretraining(args: Namespace) -> dict[str, Any]:
    """Compare a training step of base size with its frozen encoder's forward pass."""
    model = base_model(args)
    speech = noise(args.batch_size, args.seconds).to(args.device)

    @torch.no_grad()
    def encode() -> SpeechFeatures:
        with torch.autocast(args.device.type, torch.bfloat16, args.precision == "bf16"):
            return model.speech_encoder(speech)

    kept = encode()
    stored = SpeechFeatures(tuple(state.float() for state in kept.hidden_states), kept.lengths)
    times = side_by_side(
        args,
        ours=training_step(model, with_images(model, speech), args.precision),
        theirs=encode,
        stored=training_step(model, with_images(model, stored), args.precision),
    )
    found = compare(times)
    found["ratio"] = statistics.median(
        step / forward for step, forward in zip(times["ours"], times["theirs"], strict=True)
    )
    return {
        **found,
        "with_stored_features": rounded(statistics.median(times["stored"])),
        "recordings_per_second": rounded(args.batch_size / found["theirs"]),
        "times_real_time": rounded(args.batch_size * args.seconds / found["theirs"]),
        "share_of_matrix_products": rounded(_share(args, encode, found["theirs"])),
    }


def _share(args: Namespace, work: Callable[[], Any], seconds: float) -> float:
    """Return the operations a second of a piece of work, relative to a large product's."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    size = 8192 if args.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device=args.device, dtype=dtype)
    best = min(timed(lambda: matrix @ matrix, args.device) for _ in range(5))
    return counter.get_total_flops() / seconds / (2 * size**3 / best)


def compare_probing(args: Namespace) -> dict[str, Any]:
    """Compare a step of intent classification on time means with one that encodes, base size."""
    encoder = base_model(args, "speechclip_parallel").speech_encoder
    speech = noise(args.batch_size, args.seconds).to(args.device)

    @torch.no_grad()
    def encode() -> Tensor:
        with torch.autocast(args.device.type, torch.bfloat16, args.precision == "bf16"):
            return torch.stack(encoder(speech).hidden_states).float()

    states = encode()
    means = states.mean(2, keepdim=True)
    # s3prl's head, linear up to the mean over time.
    weights = torch.zeros(len(states), device=args.device, requires_grad=True)
    project = nn.Linear(states.shape[-1], 256, device=args.device)
    classify = nn.Linear(256, 24, device=args.device)
    optimizer = torch.optim.Adam([weights, *project.parameters(), *classify.parameters()], 1e-4)
    labels = torch.randint(0, 4, (3, args.batch_size), device=args.device)

    def learn(features: Tensor) -> None:
        mixed = torch.einsum("s,sbtd->btd", weights.softmax(0), features)
        logits = classify(project(mixed).mean(1)).split([6, 14, 4], dim=1)
        losses = [F.cross_entropy(*pair) for pair in zip(logits, labels, strict=True)]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    times = side_by_side(
        args,
        ours=lambda: learn(means),
        theirs=lambda: learn(encode()),
        frames=lambda: learn(states),
    )
    return {**compare(times), "on_stored_frames": rounded(statistics.median(times["frames"]))}


def run_downstream(
    task: str, upstream: str, folder: Path, cache: Mapping[str, str], *options: str
) -> tuple[float, int]:
    """Run a downstream task on its mini set, from the command's start to its result."""
    command = [sys.executable, "-m", "s3prl_speechclip.cli.downstream", "-d", task, "-u", upstream]
    command += ["-p", str(folder / "run"), "--device", "cpu", *options]
    return run_command(command, folder, {**os.environ, **cache})


def cache_without_features(folder: Path) -> dict[str, str]:
    """Make a cache of everything but features, which a run then computes; returns its variable."""
    from s3prl_speechclip.data.cache import CACHE_VARIABLE, cache_home
    from s3prl_speechclip.data.feature_store import features_home

    folder.mkdir()
    for path in cache_home().iterdir():
        if path != features_home():
            (folder / path.name).symlink_to(path)
    return {CACHE_VARIABLE: str(folder)}


def compare_intent_runs(args: Namespace, steps: int) -> dict[str, Any]:
    """Compare a whole run of intent classification on its mini set with s3prl's own runner's.

    Beside it: a second run, with the features of the first, and one in bf16.
    """
    from s3prl_speechclip.minis import mini_set

    mini_set("fluent_commands")  # made before the clock starts
    runner = {"total_steps": steps, "eval_step": steps // 2, "save_step": steps // 2}
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder = Path(scratch)
        hubert = write_mini_hubert(folder / "hubert")
        first, other = (cache_without_features(folder / name) for name in ("first", "other"))
        own = {}
        for name, cache, precision in (
            ("ours", first, "fp32"),
            ("with_stored_features", first, "fp32"),
            ("with_bf16", other, "bf16"),
        ):
            settings = {**runner, "encoder_precision": precision}
            changes = ",,".join(f"runner.{key}={value}" for key, value in settings.items())
            options = ("-k", str(hubert), "-o", changes)
            own[name] = run_downstream(
                "fluent_commands", "hf_hubert_custom", folder / name, cache, *options
            )
        seconds = {name: run[0] for name, run in own.items()}
        beside = [name for name in seconds if name != "ours"]
        found = {"ours": seconds["ours"], **{name: rounded(seconds[name]) for name in beside}}
        if args.against_s3prl is None:
            reason = "s3prl's runner needs --against-s3prl"
            return {**found, "theirs": None, "ratio": None, "reason": reason}
        theirs, their_peak = run_s3prl(
            args.against_s3prl, "fluent_commands", hubert, folder / "theirs", runner
        )
    return {
        **found,
        "theirs": theirs,
        "ratio": theirs / seconds["ours"],
        "ratios_beside": {name: rounded(theirs / seconds[name]) for name in beside},
        "command_peak_mib": {"ours": own["ours"][1], "theirs": their_peak},
    }


def time_mini_tasks(args: Namespace) -> dict[str, Any]:
    """Compare SUPERB's five mini tasks for one upstream with a minute, sets made beforehand."""
    from s3prl_speechclip.minis import SUPERB, mini_set

    for task in SUPERB:
        mini_set(task)
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder = Path(scratch)
        cache = cache_without_features(folder / "cache")
        seconds = {
            task: run_downstream(task, "speechclip_plus", folder / task, cache, "-k", "mini")[0]
            for task in SUPERB
        }
    minutes = sum(seconds.values()) / 60
    by_task = {task: rounded(value / 60) for task, value in seconds.items()}
    reason = "there is no other side"
    return {"ours": minutes, "theirs": None, "ratio": minutes, "reason": reason, "by_task": by_task}


def compare_neighbours(args: Namespace) -> dict[str, Any]:
    """Compare training while another process keeps a core busy with training alone."""
    own = {name: os.environ[name] for name in OPENMP if name in os.environ}
    beside, alone = _rates(args, own)
    settings = {name: _rates(args, waiting) for name, waiting in WAITING.items() if args.openmp}
    return {
        "ours": beside,
        "theirs": alone,
        "ratio": alone / beside,
        "repetitions": args.repetitions,
        "openmp": own,
        "beside_and_alone_by_setting": {
            name: [rounded(rate) for rate in rates] for name, rates in settings.items()
        },
    }


def _rates(args: Namespace, waiting: Mapping[str, str]) -> tuple[float, float]:
    """Return the examples per second beside a busy process, and alone."""
    command = [
        sys.executable,
        "-c",
        f"from {__name__} import training_rate; print(training_rate())",
    ]
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(args.repetitions):
        for busy, found in rates.items():
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
            try:
                printed = subprocess.check_output(command, env={**without_openmp(), **waiting})
            finally:
                if other is not None:
                    other.kill()
                    other.wait()
            found.append(float(printed.split()[-1]))
    return statistics.median(rates[True]), statistics.median(rates[False])


def training_rate() -> float:
    """Return the examples per second of the mini hybrid model's training on stored features."""
    from s3prl_speechclip.encoders.shipped import ASSETS
    from s3prl_speechclip.model.speechclip import SpeechClip

    seconds, batch_size = 4.0, 32
    model = SpeechClip.from_pretrained(ASSETS / "speechclip_hybrid")
    with torch.no_grad():
        features = model.speech_encoder(noise(batch_size, 2.3))
    step = training_step(model, with_images(model, features))
    for _ in range(5):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * batch_size / (time.perf_counter() - start)


def _intent_runs(steps: int) -> Callable[[Namespace], dict[str, Any]]:
    measure = partial(compare_intent_runs, steps=steps)
    return update_wrapper(measure, compare_intent_runs)


MEASURES: Mapping[str, Callable[[Namespace], dict[str, Any]]] = {
    "quantiser": compare_quantisers,
    "hybrid_plus_step": compare_pretraining,
    "ic_step": compare_probing,
    "ic_run_500": _intent_runs(500),
    "ic_run_2000": _intent_runs(2000),
    "qbe_pair": compare_alignments,
    "recall_25k_5k": compare_recall,
    "busy_core": compare_neighbours,
    "superb_mini_minutes": time_mini_tasks,
}
"""By the key of their goal; a docstring names the sides."""
