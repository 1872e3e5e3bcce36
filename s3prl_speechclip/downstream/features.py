"""A frozen upstream's features, computed once a recording and kept in the store."""

from __future__ import annotations

import inspect
import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from ..data.feature_store import FeatureFolder, Precision, features_home, free_space
from ..data.workers import call_ahead
from ..errors import ConfigError, EncoderError
from ..hashing import file_hash, state_hash
from ..results import s3prl_versions
from ..runtime.distributed import gather_objects
from ..structures import SAMPLE_RATE, WINDOW
from .batches import Draw, Items
from .plan import Plan
from .recordings import Naming
from .settings import value_at
from .task import EXPERT
from .upstreams import Upstream, as_states

logger = logging.getLogger(__name__)

PRECISIONS: Mapping[str, Precision] = {"fp32": "float32", "fp16": "float16"}
# Seconds of padded recordings encoded at once. On a CPU core more is not faster: 32 s of speech
# take the mini HuBERT 0.26 s one at a time, 0.19 s in batches of 16 s, 0.23 s in one.
BATCH = {"cpu": 20, "cuda": 600}
TOLERANCE = 1e-5  # between features in a batch and alone, for recordings to be encoded in batches
ROUNDING = 1e-6  # the same as a share of the largest value, eight roundings of float32
TRIED = 4  # recordings that the difference is measured on
SAMPLED = 100  # items that the size of a split's features is estimated from
PATIENCE = 2.0  # seconds of reading before other processes are started
COMPUTATION = 2  # a part of the folders' names; to be raised where upstreams are corrected
SMALL = 2**20  # bytes, of files beside weights that are settings

Split = tuple[Items, list[list[Draw]]]
"""Items of a split, and what may be read of it."""


def pooling_fault(plan: Plan) -> str:
    """Return why means over time are not all that a plan's head needs; empty where they are."""
    model = value_at(plan.config[EXPERT], "modelrc") or {}
    chosen = model.get("select")
    level = model.get(chosen) or {}
    if not plan.task.pooled:
        return f"the head of {plan.task.name} reads frames"
    if chosen != "UtteranceLevel" or level.get("pooling", "MeanPooling") != "MeanPooling":
        return "its configuration chooses another pooling than MeanPooling"
    if level.get("pre_net"):
        return "its configuration has a network before the pooling"
    if plan.request.normalize:
        return "frames are normalised one by one"
    return "masks are drawn over frames (specaug)" if plan.config.get("specaug") else ""


@dataclass
class Features:
    """A frozen upstream's features of the recordings of a run.

    Args:
        plan: the run.
        fabric: launched.
        upstream: frozen, in evaluation mode.
        rate: samples to a frame.
        width: D.
        states: number of the upstream's states.
        names: numbers of the recordings.
    """

    plan: Plan
    fabric: Fabric
    upstream: Upstream
    rate: int
    width: int
    states: int
    names: Naming

    def __post_init__(self) -> None:
        self.kind = self._choose()
        self.batched = self.drawn = False
        self.whole_windows = False  # s3prl's count of frames is that of a batch
        self._known: dict[int, Tensor] = {}

    def _choose(self) -> str:
        """Return pooled, frames or off; auto chooses the first that is possible.

        Raises:
            ConfigError: the user's choice is not possible.
        """
        runner, past = self.plan.runner, self.plan.cache
        wanted: str = runner.cache
        if past and wanted not in ("auto", past):
            raise ConfigError(
                f"--cache {wanted}: the run was trained with '{past}', which it keeps when it is "
                "resumed or evaluated; leave the option out"
            )
        wanted = past or wanted
        fault = pooling_fault(self.plan)
        if self.plan.request.trainable:
            if wanted not in ("auto", "off"):
                raise ConfigError(f"--cache {wanted}: features change while -f trains the upstream")
            return "off"
        if wanted == "pooled" and fault:
            raise ConfigError(f"--cache pooled: {fault}; give --cache frames or auto")
        if wanted != "auto":
            return wanted
        return "frames" if fault else "pooled"

    @property
    def precision(self) -> str:
        """Precision that the upstream computes in: bf16 where a GPU has it."""
        wanted, device = self.plan.runner.encoder_precision, self.fabric.device.type
        if wanted != "auto":
            return wanted
        can = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if can else "fp32"

    def about(self) -> dict[str, Any]:
        """Return how features were kept, for a result."""
        runner = self.plan.runner
        if self.kind == "off":
            return {"kind": "off"}
        about = {
            "kind": self.kind,
            "precision": runner.cache_precision,
            "encoder_precision": self.precision,
            "encoded": "in batches" if self.batched else "one recording at a time",
        }
        if self.drawn:
            about["draws"] = f"{runner.cache_draws} of each item that training crops at random"
        return about

    def fits(self, splits: Iterable[Split]) -> bool:
        """Estimate whether frames of all splits fit the budget and the disk."""
        runner = self.plan.runner
        frames = 0.0
        for items, draws in splits:
            some = draws[:: max(1, len(draws) // SAMPLED)]
            lengths = [len(wav) for batch in items.read(some) for wav in batch.wavs]
            frames += np.mean(lengths) / self.rate * sum(map(len, draws))
        states = self.states if self.plan.request.layer is None else 1
        size = frames * states * self.width * (4 if runner.cache_precision == "fp32" else 2)
        free = free_space()
        if size <= min(runner.cache_gb * 1e9, free / 2):
            return True
        logger.info(
            "features are computed at every step: %.1f GB of frames, runner.cache_gb is %g and "
            "%.0f GB are free in '%s'",
            *(size / 1e9, runner.cache_gb, free / 1e9, features_home()),
        )
        return False

    def prepare(self, splits: Sequence[Split], workers: int) -> None:
        """Compute what the store lacks, each process a share of it.

        Raises:
            CorpusError: a recording cannot be read, or the store cannot be written.
            EncoderError: a feature is no number in the precision of the store.
        """
        if self.kind == "off":
            return
        if self.kind == "frames" and self.plan.runner.cache == "auto" and not self.plan.cache:
            fits = self.fits(splits)
            if not all(gather_objects(fits)):
                self.kind = "off"
                return
        self._survey(splits, workers)
        self.folder = FeatureFolder(self._identity(), PRECISIONS[self.plan.runner.cache_precision])
        unique = {found.key: number for number, found in enumerate(self.names.recordings)}
        numbers = sorted(unique.values(), key=lambda n: self.names.recordings[n][:2][::-1])
        self.batched = self._is_batched(numbers)
        # Batches of all recordings: what is missing of them must not change how others are rounded.
        batches = [
            batch
            for batch in self._batches(numbers)
            if any(self.names.recordings[n].key not in self.folder for n in batch)
        ]
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        self._fill(batches[rank::processes], workers)
        if any(gather_objects(bool(batches))):
            self.folder.refresh()
            # Of other machines, whose store is another.
            self._fill([b for b in batches if any(not self._has(n) for n in b)], workers)

    def __call__(
        self, wavs: Sequence[np.ndarray], own_frames: bool = False
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Return recordings and features as s3prl's featurizer takes them.

        Args:
            wavs: stand-ins.
            own_frames: leave out padding that s3prl, which rounds a recording's samples to frames,
                takes from a batch.

        Returns:
            Recordings, whose lengths alone are read, and states of (B, T, D); where means over time
            are kept, a recording is one frame long.
        """
        device = self.fabric.device
        blocks = [self._read(wav) for wav in wavs]
        longest = max(block.shape[1] for block in blocks)
        together = torch.zeros(len(blocks[0]), len(blocks), longest, self.width)
        for row, block in enumerate(blocks):
            together[:, row, : block.shape[1]] = block
        together = together.to(device)
        # As s3prl cuts them, which may leave a frame or two of padding, or each one's own frames.
        own = own_frames or self.kind == "pooled"
        lengths = [
            self.rate * block.shape[1] if own else len(wav)
            for block, wav in zip(blocks, wavs, strict=True)
        ]
        states = list(together.unbind(0))
        if self.plan.request.layer is not None:
            states = states * self.states  # the featurizer takes one of them
        stand_ins = [torch.zeros(1, device=device).expand(length) for length in lengths]
        return stand_ins, {str(self.plan.request.selection): states}

    def _read(self, wav: np.ndarray) -> Tensor:
        number = self.names.number(wav)
        assert number is not None, "recordings come as stand-ins"
        if number not in self._known:
            if not self._has(number):
                self._fill([[number]], 0)
            self._known[number] = self.folder.read(self.names.recordings[number].key)
        return self._known[number]

    def _has(self, number: int) -> bool:
        return self.names.recordings[number].key in self.folder

    def _survey(self, splits: Sequence[Split], workers: int) -> None:
        """Number all recordings, which reads files that are not known."""
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        for items, draws in splits:
            # What is known takes no time, and few recordings less than to start processes.
            alone = not workers and processes == 1
            done = self._number(items, draws, float("inf") if alone else PATIENCE)
            if any(gather_objects(done < len(draws))):
                share = draws[rank::processes]
                for noted in call_ahead(partial(self._read_new, items), share, workers):
                    self.names.merge(noted)
                self.names.save()
                gather_objects(None)  # all have saved theirs
                self.names.refresh()
                self._number(items, draws[done:])
            others = items.others()
            self.drawn = self.drawn or bool(others)
            self._number(items, others)
        self.names.save()

    def _number(
        self, items: Items, draws: Sequence[Sequence[Draw]], patience: float = float("inf")
    ) -> int:
        """Number the recordings of draws for some seconds; returns how many draws that were."""
        end, done = time.monotonic() + patience, 0
        with tqdm(
            total=len(draws), desc="recordings", leave=False, disable=bool(self.fabric.global_rank)
        ) as bar:
            for _ in items.read(draws):
                bar.update()
                done += 1
                if time.monotonic() > end:
                    break
        return done

    def _read_new(self, items: Items, draw: Sequence[Draw]) -> Any:
        """Return the digests of files that were not known."""
        for _ in items.read([draw]):
            pass
        return self.names.take()

    def _audio(self, numbers: Sequence[int]) -> list[np.ndarray]:
        return [self.names.sources[number]() for number in numbers]

    def _identity(self) -> dict[str, Any]:
        request, upstream = self.plan.request, self.upstream
        source = Path(upstream.source)
        files = sorted(source.iterdir()) if upstream.source and source.is_dir() else []
        if request.upstream_config:
            files.append(Path(request.upstream_config))
        return {
            "encoder": upstream.name,
            "kind": self.kind,
            "selection": request.selection,
            "layer": request.layer,
            "rate": self.rate,
            "weights": state_hash(upstream.module.state_dict()),
            "code": type(upstream.module).__module__,
            **_own_code(upstream),
            "computation": COMPUTATION,
            **s3prl_versions(),
            **{name: metadata.version(name) for name in ("torch", "transformers")},
            "batch_invariant": upstream.batch_invariant,
            "settings": [
                file_hash(path) for path in files if path.is_file() and path.stat().st_size < SMALL
            ],
            "computed_in": self.precision,
        }

    def _is_batched(self, numbers: Sequence[int]) -> bool:
        """Return whether a recording's features are the same in a batch and alone.

        They are compared in fp32: products in bf16 are rounded otherwise in another batch.
        """
        if self.upstream.batch_invariant is not None or len(numbers) < 2:
            return bool(self.upstream.batch_invariant)
        some = [numbers[len(numbers) * n // TRIED] for n in range(TRIED)]
        wavs = [self.names.sources[n]() for n in dict.fromkeys(some)]
        for self.whole_windows in (False, True):
            together = self._encode(wavs, "fp32")
            alone = [self._encode([wav], "fp32")[0] for wav in wavs]
            if all(one.shape == other.shape for one, other in zip(together, alone, strict=True)):
                pairs = zip(together, alone, strict=True)
                difference = max(float((one - other).abs().max()) for one, other in pairs)
                logger.info("features in a batch and alone differ by up to %.1g", difference)
                largest = max(float(block.abs().max()) for block in alone)
                if difference <= max(TOLERANCE, ROUNDING * largest):
                    return True
        self.whole_windows = False
        return False

    def _frames(self, samples: int) -> int:
        """Return how many frames of a batch are a recording's own."""
        frames = max(1, round(samples / self.rate))
        windows = max(0, samples - WINDOW) // self.rate + 1
        return min(frames, windows) if self.whole_windows else frames

    def _batches(self, numbers: Sequence[int]) -> list[list[int]]:
        """Put recordings of similar lengths together, the longest first."""
        limit = BATCH[self.fabric.device.type] * SAMPLE_RATE if self.batched else 0
        batches: list[list[int]] = []
        longest = 0
        for number in reversed(numbers):
            if not batches or longest * (len(batches[-1]) + 1) > limit:
                batches.append([])
                longest = self.names.recordings[number].samples
            batches[-1].append(number)
        return batches

    def _fill(self, batches: Sequence[Sequence[int]], workers: int) -> None:
        """Encode batches, and keep what the store lacks."""
        if not batches:
            return
        bar = tqdm(
            total=sum(map(len, batches)),
            desc="features",
            unit="recording",
            leave=False,
            disable=not self.fabric.is_global_zero,
        )
        audio = call_ahead(self._audio, batches, workers if len(batches) > workers else 0)
        with bar, self.folder.writer() as writer:
            for batch, wavs in zip(batches, audio, strict=True):
                blocks = self._encode(wavs, self.precision)
                for number, block in zip(batch, blocks, strict=True):
                    key = self.names.recordings[number].key
                    if key not in self.folder:
                        writer.add(key, self._rounded(block))
                bar.update(len(batch))

    def _rounded(self, block: Tensor) -> Tensor:
        kept = block.half() if self.plan.runner.cache_precision == "fp16" else block
        if not kept.isfinite().all():
            raise EncoderError(
                f"features of {self.upstream.name} hold values that are no numbers in "
                f"{self.plan.runner.cache_precision}; set runner.cache_precision=fp32, or give "
                "--cache off"
            )
        return kept

    @torch.no_grad()
    def _encode(self, wavs: Sequence[np.ndarray], precision: str) -> list[Tensor]:
        """Return each recording's states, (S, T, D) float32 on the CPU; T is 1 for means."""
        device = self.fabric.device
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            module: nn.Module = self.upstream.module
            found = module([torch.from_numpy(wav).to(device) for wav in wavs])
        states = as_states(found[str(self.plan.request.selection)])
        if self.plan.request.layer is not None:
            states = [states[self.plan.request.layer]]
        stacked = torch.stack([state.float() for state in states], 1)
        blocks = []
        for own, wav in zip(stacked, wavs, strict=True):
            block = own[:, : self._frames(len(wav))]
            blocks.append((block.mean(1, keepdim=True) if self.kind == "pooled" else block).cpu())
        return blocks


def _own_code(upstream: Upstream) -> dict[str, Any]:
    """Return what tells an upstream of the user's own from its earlier versions."""
    kind = type(upstream.module)
    if kind.__module__.partition(".")[0] in ("s3prl", __name__.partition(".")[0]):
        return {}
    try:
        source = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        source = None
    if source is None or not Path(source).is_file():  # typed into an interpreter
        return {"own_code": uuid.uuid4().hex}
    return {"own_code": file_hash(Path(source)), "checkpoint": upstream.digest}
