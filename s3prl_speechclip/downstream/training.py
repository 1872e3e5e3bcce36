"""Train experts of s3prl's on an upstream's features, and evaluate them."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from ..errors import CheckpointError, ConfigError
from ..runtime.devices import loss_scale_state, restore_loss_scale
from ..runtime.distributed import StopSignal
from ..runtime.log import ScalarLog
from ..runtime.randomness import STEP, derived_seed, own_randomness, set_seed
from ..structures import SAMPLE_RATE
from .batches import Batch, Draw, Items, evaluation_draws, training_batches
from .compat import quiet
from .features import Features
from .plan import Plan
from .probe import (
    build_optimizer,
    build_probe,
    build_scheduler,
    corpus_errors,
    data_loader,
    new_records,
)
from .recordings import Naming
from .run_state import RunFolder, RunState
from .task import Scores
from .upstreams import Upstream

logger = logging.getLogger(__name__)

TOGETHER = 240 * SAMPLE_RATE  # samples, padded, of recordings that are evaluated in one batch

Inputs = tuple[list[Tensor], Mapping[str, Any] | None]
"""Recordings of a batch and the frozen upstream's features of them."""


class Trial:
    """A probe with its optimiser, log and checkpoints.

    Args:
        fabric: launched.
        plan: the experiment; its folder exists.
        upstream: the upstream, in evaluation mode; trained where the plan says so.
    """

    def __init__(self, fabric: Fabric, plan: Plan, upstream: Upstream) -> None:
        self.fabric = fabric
        self.plan = plan
        self.runner = plan.runner
        self.probe = build_probe(plan, upstream.module, fabric.device)
        self.step = 0
        self.scores: Scores = {}
        self.folder = RunFolder(plan.folder, self.runner.max_keep)
        self._log: ScalarLog | None = None
        self._steps_to_log = 0
        self._loss = 0.0

    @property
    def log(self) -> ScalarLog:
        """The log, opened at its first use."""
        if self._log is None:
            self._log = ScalarLog(self.plan.folder)
        return self._log

    def load(self, state: RunState) -> None:
        """Load the weights of a checkpoint.

        Raises:
            CheckpointError: they do not fit, or the corpus numbers labels otherwise.
        """
        head = self.plan.task.head
        if head is not None and state.labels not in ({}, head.labels(self.probe.expert)):
            raise CheckpointError(
                "the probe was trained on a corpus whose labels are others, or in another order; "
                "give that corpus with --data-root, or train anew"
            )
        try:
            self.probe.load_states(state.parts)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint does not fit this upstream and task: {reason}"
            ) from error
        self.step = state.step
        self.scores = dict(state.scores)

    def set_up(self, state: RunState | None) -> None:
        """Build what trains, in the state of a checkpoint if there is one."""
        config, total = self.plan.config, self.runner.total_steps
        if state is not None:
            self.load(state)
        optimizer = build_optimizer(config, self.probe, total)
        self._module, self._optimizer = self.fabric.setup(self.probe, optimizer)
        # s3prl's schedules are of the plain optimiser, which Fabric's holds.
        self._scheduler = build_scheduler(config, optimizer, total)
        if state is not None and state.optimizer:
            self._optimizer.load_state_dict(state.optimizer)
            if self._scheduler is not None and state.scheduler:
                self._scheduler.load_state_dict(state.scheduler)
            restore_loss_scale(self.fabric, state.scaler)
        if self.fabric.is_global_zero:
            self._log = ScalarLog(self.plan.folder, self.step)

    def accumulate(self, batch: Batch, inputs: Inputs, part: int) -> None:
        """Add a batch's gradient to those of the step.

        Args:
            batch: the batch.
            inputs: its recordings and features.
            part: number of the batch in the step.
        """
        self._module.train()
        parts, split = self.runner.gradient_accumulate_steps, self.runner.train_dataloader
        number = self.step * parts + part
        # Dropout and masks follow from the step, so that a resumed run draws the same.
        set_seed(derived_seed(STEP, self.plan.seed, number, self.fabric.global_rank))
        with self.fabric.no_backward_sync(self._module, enabled=part + 1 < parts):
            loss = self._module(split, *inputs, batch.others, number) * batch.weight
            self.fabric.backward(loss / parts)
        self._loss += float(loss.detach()) / parts

    def take_step(self) -> float:
        """Take an optimiser step; returns the mean loss of its batches."""
        norm = self.fabric.clip_gradients(
            self._module,
            self._optimizer,
            max_norm=self.runner.gradient_clipping,
            error_if_nonfinite=False,
        )
        if math.isfinite(float(norm)) or self.runner.precision == "fp16":
            self._optimizer.step()
        else:
            logger.warning("step %d: gradient %s, not taken", self.step + 1, float(norm))
        self._optimizer.zero_grad()
        if self._scheduler is not None:
            self._scheduler.step()
        loss, self._loss = self._loss, 0.0
        self.step += 1
        self._steps_to_log += 1
        return loss

    def log_training(self) -> None:
        """Log the steps since the last time."""
        if self.fabric.is_global_zero:
            count = self._steps_to_log * self.runner.gradient_accumulate_steps
            self.write_records(self.runner.train_dataloader, count, count)
            self.log.add_scalar("lr", self._optimizer.param_groups[0]["lr"], self.step)
        self.probe.records, self._steps_to_log = new_records(), 0

    def write_records(self, split: str, count: int, total: int) -> list[str]:
        """Have the expert log what it noted of a number of batches; returns its notes."""
        with quiet(), corpus_errors(self.plan.task):
            names = self.probe.expert.log_records(
                split,
                records=self.probe.records,
                logger=self.log,
                global_step=self.step,
                batch_ids=list(range(count)),
                total_batch_num=total,
            )
        return list(names or ())

    def save(self, best: bool, cache: str) -> None:
        """Write a checkpoint, also as the best."""
        if self.fabric.is_global_zero:
            arguments = self.plan.arguments()
            arguments["about"]["cache"] = cache
            if self.plan.task.head is not None:
                arguments["about"]["labels"] = self.plan.task.head.labels(self.probe.expert)
            state = RunState(
                step=self.step,
                config=self.plan.config,
                arguments=arguments,
                parts=self.probe.states(),
                optimizer=self._optimizer.state_dict(),
                scheduler=self._scheduler.state_dict() if self._scheduler is not None else {},
                scaler=loss_scale_state(self.fabric),
                scores=self.scores,
            )
            self.folder.save(state, best)

    def close(self) -> None:
        """Finish the log's file."""
        if self._log is not None:
            self._log.close()
            self._log = None


class Training:
    """Probes that are trained side by side, each on the same batches in the same order.

    Args:
        fabric: launched.
        plans: the experiments, of one task and upstream; their folders exist.
        upstream: the upstream.
    """

    def __init__(self, fabric: Fabric, plans: Sequence[Plan], upstream: Upstream) -> None:
        self.fabric = fabric
        self.plan = plans[0]
        self.runner = self.plan.runner
        own = [upstream] * len(plans)
        if self.plan.request.trainable and len(plans) > 1:
            own = [replace(upstream, module=copy.deepcopy(upstream.module)) for _ in plans]
        self.trials = [Trial(fabric, *each) for each in zip(plans, own, strict=True)]
        probe = self.trials[0].probe
        # Each is made once: what it draws must not begin anew.
        self._loader = cache(partial(data_loader, self.plan.task, probe.expert))
        self._upstream = upstream
        self._names = Naming()
        self.features = Features(
            plan=self.plan,
            fabric=fabric,
            upstream=upstream,
            rate=probe.featurizer.downsample_rate,
            width=probe.featurizer.output_dim,
            states=probe.states_of_upstream,
            names=self._names,
        )
        self._items: dict[str, Items] = {}
        self._draws: dict[str, list[list[Draw]]] = {}
        self._groups: dict[str, tuple[list[list[Draw]], list[int]]] = {}

    def train(self, states: Sequence[RunState | None]) -> bool:
        """Train to the last step, or until SIGTERM or SIGINT asks to stop.

        Args:
            states: checkpoint that each trial resumes from, or None.

        Returns:
            Whether the last step was reached.

        Raises:
            CorpusError: a recording cannot be used.
            CheckpointError: a checkpoint cannot be written, or does not fit.
        """
        if self.runner.total_steps < 1:
            raise ConfigError("runner.total_steps must be at least 1 to train")
        self.prepare(self.runner.train_dataloader, *self._dev, *self.plan.splits)
        for trial, state in zip(self.trials, states, strict=True):
            trial.set_up(state)
        bar = tqdm(
            total=self.runner.total_steps,
            initial=min(trial.step for trial in self.trials),
            unit="step",
            dynamic_ncols=True,
            desc=self.plan.task.name,
            disable=not self.fabric.is_global_zero,
        )
        try:
            # The caller's random state is restored after training.
            with bar, StopSignal(self.fabric) as stop, own_randomness(self.plan.seed):
                self._run(bar, stop)
        finally:
            for trial in self.trials:
                trial.close()
        return all(trial.step >= self.runner.total_steps for trial in self.trials)

    def prepare(self, *splits: str) -> None:
        """Have the features of splits in the store; all processes do it."""
        if self.features.kind == "off":
            return
        train = self.runner.train_dataloader
        found = []
        for split in dict.fromkeys(splits):
            items = self._items_of(split)
            draws = items.each() if split == train else self._evaluation_draws(split)
            found.append((items, draws))
        loader = self._loader(splits[0])
        workers = loader.num_workers if self.runner.num_workers is None else self.runner.num_workers
        self.features.prepare(found, workers)
        if self.features.kind == "off":
            self._items.clear()  # recordings are read

    def evaluate(self, trial: Trial, split: str) -> tuple[dict[str, float], bool]:
        """Measure a split with a trial's weights as they are; one process does it.

        Returns:
            The expert's metrics, and whether it calls this its best so far.
        """
        trial.probe.eval()
        records, trial.probe.records = trial.probe.records, new_records()
        draws, order = self._evaluation_draws(split), None
        total, count = len(self._loader(split)), len(draws)
        if self.plan.task.evaluated_together and self.features.kind != "off":
            draws, order = self._together(split)
        with own_randomness(self.plan.seed), torch.no_grad():
            shown = tqdm(
                self._items_of(split).read(draws, self._workers),
                total=len(draws),
                desc=split,
                leave=False,
                ncols=80,
            )
            for number, batch in enumerate(shown):
                with self.fabric.autocast():
                    inputs = self._inputs(batch, own_frames=order is not None)
                    trial.probe(split, *inputs, batch.others, number)
                if order is not None:  # a mean over the batch, as of each of its recordings
                    losses = trial.probe.records["loss"]
                    losses += losses[-1:] * (len(batch.wavs) - 1)
            if order is not None:
                for name, values in trial.probe.records.items():
                    trial.probe.records[name] = [values[place] for place in order]
            notes = trial.write_records(split, count, total)
        trial.probe.records = records
        scores = _split_scores(trial.log.latest, split)
        shown_scores = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        logger.info("step %d, %s: %s", trial.step, split, shown_scores)
        return scores, any("best" in name for name in notes)

    @property
    def _dev(self) -> list[str]:
        """Splits measured in training."""
        tests = self.runner.test_dataloaders
        return [split for split in self.runner.eval_dataloaders if split not in tests]

    def _run(self, bar: Any, stop: StopSignal) -> None:
        runner, split = self.runner, self.runner.train_dataloader
        step, parts = min(trial.step for trial in self.trials), runner.gradient_accumulate_steps
        batches = training_batches(
            self._items_of(split),
            self.plan.seed,
            step * parts,
            self.fabric.global_rank,
            self.fabric.world_size,
            self._workers,
        )
        while step < runner.total_steps and not stop.requested():
            # After a kill, one may have saved a checkpoint that another had not yet.
            behind = [trial for trial in self.trials if trial.step == step]
            for part in range(parts):
                batch = next(batches)
                inputs = self._inputs(batch)
                for trial in behind:
                    trial.accumulate(batch, inputs, part)
            losses = [trial.take_step() for trial in behind]
            step += 1
            bar.update()
            last = step == runner.total_steps
            evaluated = step % runner.eval_step == 0 or last
            if step % runner.log_step == 0 or last:
                bar.set_postfix(loss=f"{losses[0]:.3f}", refresh=False)
                for trial in behind:
                    trial.log_training()
            for trial in behind:
                best = self._evaluate_dev(trial) if evaluated else False
                if evaluated or step % runner.save_step == 0:
                    trial.save(best, self.features.kind)
            if evaluated or step % runner.save_step == 0:
                self.fabric.barrier()
        for trial in self.trials:
            if trial.step < runner.total_steps:
                trial.save(False, self.features.kind)
        self.fabric.barrier()

    def _evaluate_dev(self, trial: Trial) -> bool:
        """Measure the dev splits in the first process, the others waiting."""
        best = False
        if self.fabric.is_global_zero:
            for split in self._dev:
                trial.scores[split], better = self.evaluate(trial, split)
                best = best or better
        self.fabric.barrier()
        return best

    def _inputs(self, batch: Batch, own_frames: bool = False) -> Inputs:
        if self.features.kind != "off":
            return self.features(batch.wavs, own_frames)
        wavs = [torch.from_numpy(wav).to(self.fabric.device) for wav in batch.wavs]
        if self.plan.request.trainable:
            return wavs, None
        with torch.no_grad(), self.fabric.autocast():
            return wavs, self._upstream.module(wavs)

    def _evaluation_draws(self, split: str) -> list[list[Draw]]:
        if split not in self._draws:
            with own_randomness(self.plan.seed):
                loader = self._loader(split)
                count = len(loader)
                if split not in self.runner.test_dataloaders:
                    count = max(1, round(count * self.runner.evaluate_ratio))
                draws = evaluation_draws(loader, self.plan.seed)
            self._draws[split] = list(islice(draws, count))
        return self._draws[split]

    def _together(self, split: str) -> tuple[list[list[Draw]], list[int]]:
        """Put recordings that are read one at a time into batches by length.

        Returns:
            The batches, the longest recordings first, and each recording's place in them.
        """
        if split not in self._groups:
            draws = self._evaluation_draws(split)
            lengths = [len(batch.wavs[0]) for batch in self._items_of(split).read(draws)]
            order = sorted(range(len(draws)), key=lambda place: -lengths[place])
            groups: list[list[Draw]] = []
            longest = 0
            for place in order:
                if not groups or longest * (len(groups[-1]) + 1) > TOGETHER:
                    groups.append([])
                    longest = lengths[place]
                groups[-1] += draws[place]
            places = sorted(range(len(order)), key=order.__getitem__)
            self._groups[split] = groups, places
        return self._groups[split]

    def _items_of(self, split: str) -> Items:
        if split not in self._items:
            names = None if self.features.kind == "off" else self._names
            draws = self.runner.cache_draws if split == self.runner.train_dataloader else None
            what = f"{split} split of {self.plan.task.name}"
            self._items[split] = Items(self._loader(split), what, names, draws)
        return self._items[split]

    @property
    def _workers(self) -> int | None:
        """Processes that read; stand-ins need none."""
        return self.runner.num_workers if self.features.kind == "off" else 0


def _split_scores(latest: Mapping[str, float], split: str) -> dict[str, float]:
    """Return a split's scalars by metric; s3prl's experts tag them `task/split-metric`."""
    named = {tag.rpartition("/")[2]: value for tag, value in latest.items()}
    return {
        name.removeprefix(f"{split}-"): value
        for name, value in named.items()
        if name.startswith(f"{split}-")
    }
