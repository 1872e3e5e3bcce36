"""What is fast here, each measured beside the plain way or another program on the same data."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.structures import SAMPLE_RATE, PairBatch, SpeechBatch, SpeechFeatures

if TYPE_CHECKING:
    from s3prl_speechclip.model.speechclip import SpeechClip

OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
WAITING: Mapping[str, Mapping[str, str]] = {
    "library default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {n}": {"GOMP_SPINCOUNT": str(n)} for n in (1_000, 10_000, 100_000, 1_000_000)},
}
"""Ways in which OpenMP's threads wait for each other."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and how everything is measured."""

    device: torch.device
    precision: str = "fp32"
    batch_size: int = 32
    seconds: float = 2.3
    """Of each recording, noise."""
    repetitions: int = 3
    seed: int = 0
    s3prl: str | None = None
    """Python of an environment in which s3prl's own runner starts."""
    openmp: bool = False
    """Whether `busy_core` is measured under each of `WAITING`."""

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False
        )


@dataclass(frozen=True)
class Found:
    """A measurement, in the comparison's unit."""

    ours: float
    theirs: float | None
    ratio: float | None
    more: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else was measured, and `reason` where the other side is missing."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides, the unit of both, and the ratio that is wanted."""

    ours: str
    theirs: str
    unit: str
    goal: float
    at_most: bool = False
    """Whether the goal bounds the ratio from above."""
    measure: Callable[[Settings], Found]

    def record(self, settings: Settings) -> dict[str, Any]:
        """Measure; returns what result files hold."""
        with peak_memory(settings.device) as peak:
            found = self.measure(settings)
        met = found.ratio is not None and (found.ratio <= self.goal) == self.at_most
        return {
            "ours": rounded(found.ours),
            "theirs": rounded(found.theirs),
            "ratio": rounded(found.ratio),
            "goal": self.goal,
            "goal_is": "at most" if self.at_most else "at least",
            "met": met if found.ratio is not None else None,
            "unit": self.unit,
            "compared": f"{self.ours} beside {self.theirs}",
            "peak_mib": peak.get("mib"),
            **found.more,
        }


def rounded(value: float | None) -> float | None:
    """Round to four significant digits."""
    return None if value is None else float(f"{value:.4g}")


@contextmanager
def peak_memory(device: torch.device) -> Any:
    """Measure the most memory that was in use; yields a dictionary that gets `mib` at the end."""
    peak: dict[str, float] = {}
    status = Path("/proc/self/status")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif status.exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # starts the peak anew
    yield peak
    if device.type == "cuda":
        peak["mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    elif status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"))
        peak["mib"] = round(int(found.group(1)) / 1024) if found else 0


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of one piece of work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def side_by_side(
    settings: Settings, works: Mapping[str, Callable[[], Any]], warm_up: int = 1
) -> dict[str, list[float]]:
    """Time pieces of work in turn, so that what else the machine does meets all of them.

    Returns:
        Seconds of each by its name, a number a repetition.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warm_up + settings.repetitions):
        for name, work in works.items():
            seconds = timed(work, settings.device)
            if number >= warm_up:
                times[name].append(seconds)
    return times


def faster(times: Mapping[str, list[float]], ours: float = 1.0, theirs: float = 1.0) -> Found:
    """Compare the times of `ours` and `theirs`, each divided by how often it did the work."""
    pairs = zip(times["theirs"], times["ours"], strict=True)
    return Found(
        statistics.median(times["ours"]) / ours,
        statistics.median(times["theirs"]) / theirs,
        statistics.median(t / o for t, o in pairs) * ours / theirs,
        {"repetitions": len(times["ours"])},
    )


# Formulas


def quantiser(settings: Settings) -> Found:
    """Compare the quantiser's cosine with one that is broadcast, as the official code's."""
    from s3prl_speechclip.model.config import KeywordConfig
    from s3prl_speechclip.modules.quantizer import CosineQuantizer

    torch.manual_seed(settings.seed)
    keywords = torch.randn(settings.batch_size, 8, 512, device=settings.device)
    codebook = torch.randn(8112, 512, device=settings.device)  # of the released Flickr8k models
    banned = torch.tensor([0], device=settings.device)
    own = CosineQuantizer(KeywordConfig()).to(settings.device).eval()

    def broadcast() -> Tensor:
        each = [
            F.cosine_similarity(keyword[:, :, None], codebook.T[None], dim=1)
            for keyword in keywords.unbind(1)
        ]
        return torch.stack(each, dim=1).index_fill(-1, banned, -torch.inf).argmax(-1)

    assert torch.equal(own(keywords[:2], codebook, banned).rows, broadcast()[:2])
    works = {"ours": lambda: own(keywords, codebook, banned), "theirs": broadcast}
    return faster(side_by_side(settings, works, warm_up=0))


def recall(settings: Settings) -> Found:
    """Compare exact ranks with a sort of all scores, as the official code's."""
    from s3prl_speechclip.modules.recall import recall_at_k

    generator = torch.Generator().manual_seed(settings.seed)
    speech = F.normalize(torch.randn(25_000, 512, generator=generator), dim=-1).to(settings.device)
    images = F.normalize(torch.randn(5_000, 512, generator=generator), dim=-1).to(settings.device)
    speech_ids, image_ids = torch.arange(25_000) % 5_000, torch.arange(5_000)

    def sort() -> None:
        scores = speech @ images.T
        for side, ids, right in (
            (scores, image_ids, speech_ids),
            (scores.T, speech_ids, image_ids),
        ):
            order = side.argsort(dim=1, descending=True).cpu()
            hits = ids[order] == right[:, None]
            _ = [float(hits[:, :k].any(1).float().mean()) for k in (1, 5, 10)]

    works = {"ours": lambda: recall_at_k(speech, images, speech_ids, image_ids), "theirs": sort}
    return faster(side_by_side(settings, works, warm_up=0))


def qbe_pair(settings: Settings) -> Found:
    """Compare alignments of 32 queries and 30 documents with dtw-python's, a pair at a time."""
    from scipy.spatial.distance import cdist

    from s3prl_speechclip.downstream.compat import quiet
    from s3prl_speechclip.downstream.detection import find_distance, match_costs

    with quiet():  # it greets on standard output
        from dtw import dtw
    generator = torch.Generator().manual_seed(settings.seed)
    queries = [torch.randn(50, 768, generator=generator) for _ in range(32)]
    documents = [torch.randn(350, 768, generator=generator) for _ in range(30)]
    costs = []

    def one_by_one() -> None:
        for document in documents[:10]:
            distances = np.exp(cdist(queries[0].numpy(), document.numpy(), "cosine")) - 1
            low, high = distances.min(1, keepdims=True), distances.max(1, keepdims=True)
            distances = (distances - low) / np.clip(high - low, 1e-9, np.inf)
            found = dtw(x=distances, step_pattern="asymmetric", open_begin=True, open_end=True)
            costs.append(found.normalizedDistance)

    there = [[each.to(settings.device) for each in side] for side in (queries, documents)]
    distance = find_distance("cosine_exp")
    works = {"ours": lambda: match_costs(*there, distance, True), "theirs": one_by_one}
    times = side_by_side(settings, works)
    difference = (
        (match_costs(*there, distance, True)[0, :10] - torch.tensor(costs[:10])).abs().max()
    )
    times = {name: [1000 * seconds for seconds in each] for name, each in times.items()}
    found = faster(times, ours=32 * 30, theirs=10)
    return Found(
        found.ours, found.theirs, found.ratio, {**found.more, "difference": float(difference)}
    )


# Models


def base_model(settings: Settings, variant: str = "speechclip_hybrid_plus") -> SpeechClip:
    """Build a model of base size with random weights."""
    from s3prl_speechclip.encoders.vocabulary import find_vocabulary
    from s3prl_speechclip.model.config import ClipConfig, ModelConfig, SpeechEncoderConfig
    from s3prl_speechclip.model.speechclip import SpeechClip

    torch.manual_seed(settings.seed)
    encoder = SpeechEncoderConfig(pretrained=False, architecture={"model_type": "hubert"})
    clip = ClipConfig(pretrained="", quick_gelu=True)
    config = ModelConfig(variant=variant, speech_encoder=encoder, clip=clip)
    return SpeechClip(config, find_vocabulary("flickr8k")).to(settings.device)


def noise(settings: Settings) -> SpeechBatch:
    """Make recordings of one length."""
    samples = int(settings.seconds * SAMPLE_RATE)
    waveforms = 0.1 * torch.randn(settings.batch_size, samples)
    lengths = torch.full((settings.batch_size,), samples)
    return SpeechBatch(waveforms, lengths).to(settings.device)


@torch.no_grad()
def pair_batch(model: SpeechClip, speech: SpeechBatch | SpeechFeatures) -> PairBatch:
    """Return a batch with a picture for each recording."""
    count, device = len(speech.lengths), speech.lengths.device
    side = model.clip.clip.visual.image_size
    height, width = (side, side) if isinstance(side, int) else side
    features = model.clip.image_features(torch.randn(2, 3, height, width, device=device))
    images = torch.randn(count, features.shape[1], device=device)
    return PairBatch(speech, images, torch.arange(count, device=device))


def training_step(model: SpeechClip, batch: PairBatch, settings: Settings) -> Callable[[], None]:
    """Return a function that takes one step."""
    from s3prl_speechclip.pretrain.train import PretrainStep
    from s3prl_speechclip.runtime.optimization import OptimizerConfig, build_optimizer

    step = PretrainStep(model.train())
    optimizer = build_optimizer(OptimizerConfig(), model.parameters())

    def take() -> None:
        with settings.autocast():
            loss = step(batch, 0).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return take


def hybrid_plus_step(settings: Settings) -> Found:
    """Compare a training step with the forward pass of its frozen speech encoder."""
    model = base_model(settings)
    speech = noise(settings)

    @torch.no_grad()
    def encode() -> SpeechFeatures:
        with settings.autocast():
            return model.speech_encoder(speech)

    kept = encode()
    stored = SpeechFeatures(tuple(state.float() for state in kept.hidden_states), kept.lengths)
    works = {
        "theirs": encode,
        "ours": training_step(model, pair_batch(model, speech), settings),
        "stored": training_step(model, pair_batch(model, stored), settings),
    }
    times = side_by_side(settings, works)
    found = faster(times)
    encoder = statistics.median(times["theirs"])
    more = {
        **found.more,
        "with_stored_features": rounded(statistics.median(times["stored"])),
        "recordings_per_second": rounded(settings.batch_size / encoder),
        "times_real_time": rounded(settings.batch_size * settings.seconds / encoder),
        "share_of_matrix_products": rounded(_share(settings, encode, encoder)),
    }
    ratio = statistics.median(
        own / other for own, other in zip(times["ours"], times["theirs"], strict=True)
    )
    return Found(found.ours, found.theirs, ratio, more)


def _share(settings: Settings, work: Callable[[], Any], seconds: float) -> float:
    """Return the floating point operations of a piece of work, relative to a large product's."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    size = 8192 if settings.device.type == "cuda" else 2048
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device=settings.device, dtype=dtype)
    best = min(timed(lambda: matrix @ matrix, settings.device) for _ in range(5))
    return counter.get_total_flops() / seconds / (2 * size**3 / best)


def ic_step(settings: Settings) -> Found:
    """Compare a step of intent classification's head on time means with one of everything."""
    encoder = base_model(settings, "speechclip_parallel").speech_encoder
    speech = noise(settings)

    @torch.no_grad()
    def encode() -> Tensor:
        with settings.autocast():
            return torch.stack(encoder(speech).hidden_states)

    states = encode().float()
    head = _IntentHead(len(states), states.shape[-1]).to(settings.device)
    optimizer = torch.optim.Adam(head.parameters(), 1e-4)
    labels = torch.randint(0, 4, (3, settings.batch_size), device=settings.device)

    def learn(features: Tensor) -> None:
        losses = [F.cross_entropy(*pair) for pair in zip(head(features), labels, strict=True)]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    means = states.mean(2, keepdim=True)
    works = {
        "theirs": lambda: learn(encode().float()),
        "ours": lambda: learn(means),
        "frames": lambda: learn(states),
    }
    times = side_by_side(settings, works)
    found = faster(times)
    more = {**found.more, "on_stored_frames": rounded(statistics.median(times["frames"]))}
    return Found(found.ours, found.theirs, found.ratio, more)


class _IntentHead(nn.Module):
    """s3prl's head of intent classification, linear up to the mean over time."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.projector = nn.Linear(width, 256)
        self.output = nn.Linear(256, 24)

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        """Map states, (S, B, T, D), to the logits of action, object and location."""
        mixed = torch.einsum("s,sbtd->btd", self.weights.softmax(0), states)
        return self.output(self.projector(mixed).mean(1)).split([6, 14, 4], dim=1)


# Whole commands


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    seconds: float
    peak_mib: int
    """Of the command itself, without those that it started."""


def run_command(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Ran:
    """Run a command and keep what it says in `folder/log.txt`.

    Raises:
        ConfigError: it fails.
    """
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=Path.cwd()
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ConfigError(f"'{' '.join(command[:4])} ..' failed: {' '.join(last)}")
    return Ran(time.perf_counter() - start, round(usage.ru_maxrss / 1024))


def downstream(task: str, upstream: str, checkpoint: str, folder: Path, changes: str = "") -> Ran:
    """Run a downstream task on its mini set, from its beginning to its result."""
    command = [sys.executable, "-m", "s3prl_speechclip.cli.downstream", "-d", task, "-u", upstream]
    folder.mkdir()
    options = ["-k", checkpoint, "-p", str(folder / "run"), "--device", "cpu"]
    return run_command([*command, *options, *(["-o", changes] if changes else [])], folder)


def ic_run(settings: Settings, steps: int) -> Found:
    """Compare a whole run of intent classification on the mini set with one by s3prl's runner."""
    import yaml

    from s3prl_speechclip.config import read_yaml
    from s3prl_speechclip.minis import mini_set

    from .s3prl_peer import write_mini_hubert

    mini_set("fluent_commands")  # made before the clock starts
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        work = Path(scratch)
        hubert = str(write_mini_hubert(work / "hubert"))
        runner = {"total_steps": steps, "eval_step": steps // 2, "save_step": steps // 2}
        changes = ",,".join(f"runner.{key}={value}" for key, value in runner.items())
        ours = downstream("fluent_commands", "hf_hubert_custom", hubert, work / "ours", changes)
        if settings.s3prl is None:
            reason = "s3prl's runner needs --against-s3prl"
            return Found(ours.seconds, None, None, {"reason": reason, "repetitions": 1})
        from s3prl_speechclip import downstream_configs

        config = read_yaml(Path(downstream_configs.__path__[0]) / "fluent_commands.yaml")
        mini = mini_set("fluent_commands")
        config["optimizer"] |= mini.config["optimizer"]
        config["runner"] |= {**runner, "num_workers": 0, "eval_dataloaders": ["dev", "test"]}
        config["downstream_expert"]["datarc"] |= {"file_path": str(mini.root), "num_workers": 0}
        folder = work / "theirs"
        folder.mkdir()
        file = folder / "ic.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [settings.s3prl, "-m", "s3prl.run_downstream", "-m", "train"]
        command += ["-u", "hf_hubert_custom", "-k", hubert, "-d", "fluent_commands"]
        command += ["-c", str(file), "-p", str(folder / "run"), "--device", "cpu"]
        plain = {name: value for name, value in os.environ.items() if name not in OPENMP}
        theirs = run_command(command, folder, plain)
    more = {
        "repetitions": 1,
        "command_peak_mib": {"ours": ours.peak_mib, "theirs": theirs.peak_mib},
    }
    return Found(ours.seconds, theirs.seconds, theirs.seconds / ours.seconds, more)


def superb_mini(settings: Settings) -> Found:
    """Time SUPERB's five mini tasks for one upstream, sets made beforehand."""
    from s3prl_speechclip.minis import SUPERB, mini_set

    minutes = {}
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        for task in SUPERB:
            mini_set(task)
        for task in SUPERB:
            ran = downstream(task, "speechclip_plus", "mini", Path(scratch) / task)
            minutes[task] = ran.seconds / 60
    total = sum(minutes.values())
    more = {
        "reason": "no other side: the goal is a number of minutes, and the ratio is to one",
        "by_task": {task: rounded(value) for task, value in minutes.items()},
        "repetitions": 1,
    }
    return Found(total, None, total, more)


def busy_core(settings: Settings) -> Found:
    """Compare training steps while another process keeps a core busy with those alone."""
    own = {name: os.environ[name] for name in OPENMP if name in os.environ}
    alone, beside = _rates(settings, own)
    more: dict[str, Any] = {"openmp": own, "repetitions": settings.repetitions}
    if settings.openmp:
        found = {name: _rates(settings, waiting) for name, waiting in WAITING.items()}
        more["by_setting"] = {
            name: {"alone": rounded(rates[0]), "beside": rounded(rates[1])}
            for name, rates in found.items()
        }
    return Found(beside, alone, alone / beside, more)


def _rates(settings: Settings, waiting: Mapping[str, str]) -> tuple[float, float]:
    """Return the examples per second of a step alone, and beside a busy process."""
    code = f"from {__name__} import training_rate; print(training_rate())"
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(settings.repetitions):
        for busy, found in rates.items():
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
            try:
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env={**environment, **waiting},
                    capture_output=True,
                    text=True,
                    check=True,
                )
            finally:
                if other is not None:
                    other.kill()
                    other.wait()
            found.append(float(done.stdout.split()[-1]))
    return statistics.median(rates[False]), statistics.median(rates[True])


def training_rate(seconds: float = 4.0) -> float:
    """Return the examples per second of mini models' training on stored features."""
    from s3prl_speechclip.encoders.shipped import ASSETS
    from s3prl_speechclip.model.speechclip import SpeechClip

    settings = Settings(device=torch.device("cpu"))
    torch.manual_seed(settings.seed)
    model = SpeechClip.from_pretrained(ASSETS / "speechclip_hybrid")
    with torch.no_grad():
        features = model.speech_encoder(noise(settings))
    step = training_step(model, pair_batch(model, features), settings)
    for _ in range(5):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * settings.batch_size / (time.perf_counter() - start)


COMPARISONS: Mapping[str, Comparison] = {
    "quantiser": Comparison(
        ours="the quantiser",
        theirs="a broadcast cosine",
        unit="seconds a batch",
        goal=500.0,
        measure=quantiser,
    ),
    "hybrid_plus_step": Comparison(
        ours="a training step of base size",
        theirs="the frozen encoder's forward pass",
        unit="seconds a batch",
        goal=1.15,
        at_most=True,
        measure=hybrid_plus_step,
    ),
    "ic_step": Comparison(
        ours="a step of the head on time means",
        theirs="a step with encoding, base size",
        unit="seconds a batch",
        goal=1000.0,
        measure=ic_step,
    ),
    "ic_run_500": Comparison(
        ours="a whole command of 500 steps",
        theirs="s3prl's runner",
        unit="seconds",
        goal=10.0,
        measure=lambda settings: ic_run(settings, 500),
    ),
    "ic_run_2000": Comparison(
        ours="a whole command of 2,000 steps",
        theirs="s3prl's runner",
        unit="seconds",
        goal=25.0,
        measure=lambda settings: ic_run(settings, 2000),
    ),
    "qbe_pair": Comparison(
        ours="alignment of 50 x 350 frames of 768",
        theirs="dtw-python",
        unit="milliseconds a pair",
        goal=20.0,
        measure=qbe_pair,
    ),
    "recall_25k_5k": Comparison(
        ours="exact ranks of 25,000 captions and 5,000 images",
        theirs="a sort of all scores",
        unit="seconds",
        goal=1.0,
        measure=recall,
    ),
    "busy_core": Comparison(
        ours="training while another process keeps a core busy",
        theirs="alone",
        unit="examples a second",
        goal=3.0,
        at_most=True,
        measure=busy_core,
    ),
    "superb_mini_minutes": Comparison(
        ours="five mini SUPERB tasks for one upstream",
        theirs="a minute",
        unit="minutes",
        goal=5.0,
        at_most=True,
        measure=superb_mini,
    ),
}
"""By their key in result files."""
