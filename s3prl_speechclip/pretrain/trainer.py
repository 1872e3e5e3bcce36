"""The training loop.

Devices, precision, processes and launching are Lightning Fabric's; what a step is is the task's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from ..model.embedding import SpeechEmbeddings, embed_images, embed_speech, in_order
from ..model.speechclip import SpeechClip
from ..recall import recall_at_k
from ..runtime.allocation import KeptMemory
from ..runtime.devices import loss_scale_state, restore_loss_scale
from ..runtime.distributed import broadcast_parameters, gather_objects
from ..runtime.log import ScalarLog, draw_curves
from ..runtime.optimization import build_optimizer, learning_rate, set_learning_rate
from ..runtime.randomness import random_state, restore_random_state
from ..runtime.signals import StopSignal
from ..structures import PairBatch, SpeechBatch, StepOutput
from .config import PretrainConfig
from .reading import RunData
from .spectral_start import learn_spectrum
from .state import RunCheckpoints, TrainerState
from .task import PretrainTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    best_step: int
    best_recall: float
    interrupted: bool


class Trainer:
    """Train a model on a corpus.

    Args:
        fabric: launched.
        config: of the run.
        model: to be trained.
        data: what it is trained and validated on.
        folder: of the experiment; it exists.
        state: where to go on from, or None.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: PretrainConfig,
        model: SpeechClip,
        data: RunData,
        folder: Path,
        state: TrainerState | None = None,
    ) -> None:
        self.fabric = fabric
        self.config = config
        self.data = data
        self.model = model
        self.checkpoints = RunCheckpoints(folder, config.runner.max_keep)
        self.step = state.step if state else 0
        self.best_step = state.best_step if state else 0
        self.best_recall = state.best_recall if state else -1.0
        self._memory = KeptMemory() if fabric.device.type == "cpu" else None

        optimizer = build_optimizer(config.optimizer, model.parameters())
        self.task, self.optimizer = fabric.setup(PretrainTask(model), optimizer)
        if state:
            self.optimizer.load_state_dict(state.optimizer)
            restore_loss_scale(fabric, state.scaler)
            restore_random_state(_own_state(state.rng, fabric.global_rank))
        self.log = ScalarLog(folder, self.step) if fabric.is_global_zero else None

    def learn_spectrum(self) -> None:
        """Give a speech encoder with random weights its first lesson, where one is configured.

        Every process takes it whole, and all begin with what the first one learned.
        """
        steps = self.config.runner.spectral_start_steps
        encoder = self.model.speech_encoder
        if steps and encoder.trainable:
            batches = (speech.to(self.fabric.device) for speech in self.data.recordings())
            error = learn_spectrum(encoder, batches, steps, self.fabric.autocast())
            broadcast_parameters(encoder)
            logger.info("spectrum learned in %d steps: %.2f of its variance is left", steps, error)

    def run(self) -> Outcome:
        """Train to the last step, or until SIGTERM or SIGINT asks to stop.

        Raises:
            CheckpointError: a checkpoint cannot be written.
        """
        runner = self.config.runner
        bar = tqdm(
            total=runner.total_steps,
            initial=self.step,
            desc=self.config.model.variant,
            unit="step",
            disable=not self.fabric.is_global_zero,
            dynamic_ncols=True,
        )
        shown: dict[str, float] = {}
        self.task.train()
        with StopSignal(self.fabric) as stop, bar:
            batches = self.data.batches(self.step * runner.gradient_accumulate_steps)
            started, examples = time.perf_counter(), 0
            while self.step < runner.total_steps and not stop.requested():
                output, count = self._optimize(batches)
                self.step += 1
                examples += count
                bar.update()
                if self.step % runner.log_step == 0 or self.step == runner.total_steps:
                    seconds = time.perf_counter() - started
                    values = self._figures(output, examples / seconds)
                    shown |= values
                    started, examples = time.perf_counter(), 0
                    self._log(values)
                    if self._memory is not None:
                        self._memory.return_surplus()
                if self.step % runner.eval_step == 0 or self.step == runner.total_steps:
                    before = time.perf_counter()
                    recalls = self.evaluate()
                    self._log(recalls)
                    shown |= recalls
                    self._keep_best(recalls)
                    started += time.perf_counter() - before
                elif self.step % runner.save_step == 0:
                    self.save()
                bar.set_postfix(progress_figures(shown), refresh=False)
            interrupted = self.step < runner.total_steps
            if interrupted:
                self.save()
        if self.log is not None:
            self.log.close()
            draw_curves(self.log.folder)
        return Outcome(self.step, self.best_step, self.best_recall, interrupted)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure recall on the validation splits, in percent, by split and embedding."""
        self.task.eval()
        figures: dict[str, float] = {}
        tens = []
        for name, data in self.data.validation.items():
            share = data.batches[self.fabric.global_rank :: self.fabric.world_size]
            with self.fabric.autocast():
                speech = _merge(gather_objects(embed_speech(self.model, data, share)))
                images = embed_images(self.model, data)
            for kind, vectors in speech.by_name.items():
                recall = recall_at_k(vectors, images, speech.pair_ids, data.image_ids)
                figures |= {f"recall@{k}/{name}/{kind}": v for k, v in recall["mean"].items()}
            tens.append(figures[f"recall@10/{name}/{next(iter(speech.by_name))}"])
        figures["recall@10"] = sum(tens) / len(tens)
        self.task.train()
        return figures

    def save(self) -> None:
        """Write a checkpoint of where the run stands; every process must call it."""
        states = gather_objects(random_state())
        rng = {f"{rank}/{name}": v for rank, each in enumerate(states) for name, v in each.items()}
        if self.fabric.is_global_zero:
            state = TrainerState(
                step=self.step,
                optimizer=self.optimizer.state_dict(),
                scaler=loss_scale_state(self.fabric),
                rng=rng,
                best_step=self.best_step,
                best_recall=self.best_recall,
            )
            about = {
                **self.data.about(),
                "mini": self.data.manifest.mini or self.config.model.size == "mini",
                "step": self.step,
                "seed": self.config.seed,
                "batch_size": self.config.data.batch_size,
                "hardware": f"{self.fabric.world_size} x {_device_name(self.fabric.device)}",
                "validation_recall@10": round(self.best_recall, 4),
            }
            self.checkpoints.save(self.model.stored(about), state)
        self.fabric.barrier()

    def _keep_best(self, recalls: dict[str, float]) -> None:
        better = recalls["recall@10"] > self.best_recall
        if better:
            self.best_step, self.best_recall = self.step, recalls["recall@10"]
        self.save()
        if better and self.fabric.is_global_zero:
            self.checkpoints.mark_best(self.step)

    def _optimize(self, batches: Iterator[PairBatch]) -> tuple[StepOutput, int]:
        """Take one optimiser step; gives its last batch's losses and the recordings seen."""
        runner = self.config.runner
        rate = learning_rate(
            self.config.scheduler, self.config.optimizer.lr, self.step, runner.total_steps
        )
        set_learning_rate(self.optimizer, rate)
        seen = 0
        for part in range(runner.gradient_accumulate_steps):
            batch = next(batches).to(self.fabric.device)
            speech = batch.speech
            given = speech.waveforms if isinstance(speech, SpeechBatch) else speech.hidden_states
            last = part + 1 == runner.gradient_accumulate_steps
            with self.fabric.no_backward_sync(self.task, enabled=not last):
                losses, report = self.task(
                    given, speech.lengths, batch.images, batch.pair_ids, batch.texts, self.step
                )
                output = StepOutput(losses, report)
                self.fabric.backward(output.loss / runner.gradient_accumulate_steps)
            seen += len(batch.pair_ids) * self.fabric.world_size
        if runner.gradient_clipping > 0:
            self.fabric.clip_gradients(
                self.task,
                self.optimizer,
                max_norm=runner.gradient_clipping,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return output, seen

    def _figures(self, output: StepOutput, rate: float) -> dict[str, float]:
        values = {"loss": float(output.loss.detach())}
        values |= {f"loss/{name}": float(value.detach()) for name, value in output.losses.items()}
        values |= output.report
        values["lr"] = self.optimizer.param_groups[0]["lr"]
        values["examples_per_second"] = rate
        if not math.isfinite(values["loss"]):
            logger.warning("step %d: the loss is %s", self.step, values["loss"])
        return values

    def _log(self, values: dict[str, float]) -> None:
        if self.log is not None:
            self.log.add(self.step, values)


def _merge(parts: Sequence[SpeechEmbeddings]) -> SpeechEmbeddings:
    """Put the processes' shares of a split together, in the order of the split."""
    if len(parts) == 1:
        return parts[0]
    names = next(part.by_name for part in parts if part.by_name)
    return in_order(
        {name: torch.cat([p.by_name[name] for p in parts if p.by_name]) for name in names},
        torch.cat([part.pair_ids for part in parts]),
        torch.cat([part.indices for part in parts]),
    )


def _own_state(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return a process's random state, or the first one's where the past run had fewer."""
    rank = rank if f"{rank}/cpu" in states else 0
    prefix = f"{rank}/"
    return {k.removeprefix(prefix): v for k, v in states.items() if k.startswith(prefix)}


def progress_figures(shown: Mapping[str, float]) -> dict[str, str]:
    """Choose what the progress bar shows of a step's figures."""
    chosen = {}
    for name, value in shown.items():
        if name == "loss" or name.startswith("loss/"):
            chosen[name.removeprefix("loss/")] = f"{value:.3f}"
        elif name == "recall@10":
            chosen["R@10"] = f"{value:.1f}"
        elif name == "examples_per_second":
            chosen["ex/s"] = f"{value:.0f}"
    return chosen


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
