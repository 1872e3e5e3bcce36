"""Train an expert of s3prl's on an upstream's features, and evaluate it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from tqdm import tqdm

from ..errors import CheckpointError, ConfigError
from ..runtime.devices import loss_scale_state, restore_loss_scale
from ..runtime.distributed import StopSignal
from ..runtime.log import ScalarLog
from ..runtime.randomness import STEP, derived_seed, own_randomness, set_seed
from .batches import Batch, evaluation_batches, training_batches
from .cache import DTYPES, FeatureCache
from .compat import quiet
from .experts import Loaders, corpus_errors
from .plan import Plan
from .probe import build_optimizer, build_probe, build_scheduler, new_records
from .run_state import RunFolder, RunState
from .task import Scores

logger = logging.getLogger(__name__)


class Runner:
    """One experiment.

    Args:
        fabric: launched.
        plan: the experiment; its folder exists.
        upstream: the upstream, in evaluation mode; trained where the plan says so.
    """

    def __init__(self, fabric: Fabric, plan: Plan, upstream: nn.Module) -> None:
        self.fabric = fabric
        self.plan = plan
        self.runner = plan.runner
        self.probe = build_probe(plan, upstream, fabric.device)
        self.step = 0
        self.scores: Scores = {}
        self.folder = RunFolder(plan.folder, self.runner.max_keep)
        self.loaders = Loaders(plan.task, self.probe.expert)
        self._upstream = upstream
        self._log: ScalarLog | None = None
        self._cache: FeatureCache | None = None
        if self.runner.feature_cache != "off" and self.probe.upstream is None:
            self._cache = FeatureCache(
                upstream,
                str(plan.request.selection),
                plan.request.layer,
                self.probe.featurizer.downsample_rate,
                DTYPES[self.runner.feature_cache],
                int(self.runner.feature_cache_gb * 1e9),
            )

    def train(self, state: RunState | None = None) -> bool:
        """Train to the last step, or until SIGTERM or SIGINT asks to stop.

        Args:
            state: checkpoint to resume from, or None.

        Returns:
            Whether the last step was reached.

        Raises:
            CorpusError: a recording cannot be used.
            CheckpointError: a checkpoint cannot be written, or does not fit.
        """
        if self.runner.total_steps < 1:
            raise ConfigError("runner.total_steps must be at least 1 to train")
        self._set_up_training(state)
        if self.fabric.is_global_zero:
            self._log = ScalarLog(self.plan.folder, self.step)
        bar = tqdm(
            total=self.runner.total_steps,
            initial=self.step,
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
            self.close()
        return self.step >= self.runner.total_steps

    def evaluate(self, split: str) -> tuple[dict[str, float], bool]:
        """Measure a split with the weights as they are; one process does it.

        Returns:
            The expert's metrics, and whether it calls this its best so far.
        """
        self.probe.eval()
        log = self._open_log()
        records, self.probe.records = self.probe.records, new_records()
        test = split in self.runner.test_dataloaders
        with own_randomness(self.plan.seed):
            loader = self.loaders.evaluation(split)
            count = len(loader)
            if not test:
                count = max(1, round(count * self.runner.evaluate_ratio))
            what = f"{split} split of {self.plan.task.name}"
            batches = evaluation_batches(loader, what, self.plan.seed, self.runner.num_workers)
            shown = tqdm(
                islice(batches, count), total=count, desc=split, leave=False, dynamic_ncols=True
            )
            with torch.no_grad():
                for number, batch in enumerate(shown):
                    with self.fabric.autocast():
                        self._forward(self.probe, split, batch, number)
            with quiet(), corpus_errors(self.plan.task):
                names = self.probe.expert.log_records(
                    split,
                    records=self.probe.records,
                    logger=log,
                    global_step=self.step,
                    batch_ids=list(range(count)),
                    total_batch_num=len(loader),
                )
        self.probe.records = records
        scores = _split_scores(log.latest, split)
        shown_scores = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        logger.info("step %d, %s: %s", self.step, split, shown_scores)
        return scores, any("best" in name for name in names or ())

    def load(self, state: RunState) -> None:
        """Load the weights of a checkpoint.

        Raises:
            CheckpointError: they do not fit.
        """
        try:
            self.probe.load_states(state.parts)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the checkpoint does not fit this upstream and task: {reason}"
            ) from error
        self.step = state.step
        self.scores = dict(state.scores)

    def _set_up_training(self, state: RunState | None) -> None:
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

    def close(self) -> None:
        """Finish the log's file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _open_log(self) -> ScalarLog:
        if self._log is None:
            self._log = ScalarLog(self.plan.folder)
        return self._log

    def _run(self, bar: Any, stop: StopSignal) -> None:
        runner = self.runner
        split = runner.train_dataloader
        batches = training_batches(
            lambda epoch: self.loaders.training(split, epoch),
            f"{split} split of {self.plan.task.name}",
            self.plan.seed,
            self.step * runner.gradient_accumulate_steps,
            self.fabric.global_rank,
            self.fabric.world_size,
            runner.num_workers,
        )
        noted = 0
        while self.step < runner.total_steps and not stop.requested():
            loss = self._optimize(batches)
            self.step += 1
            noted += 1
            bar.update()
            last = self.step == runner.total_steps
            if self.step % runner.log_step == 0 or last:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                self._log_training(noted)
                noted = 0
            evaluated = self.step % runner.eval_step == 0 or last
            best = self._evaluate_dev() if evaluated else False
            if evaluated or self.step % runner.save_step == 0:
                self._save(best)
        if self.step < runner.total_steps:
            self._save(best=False)

    def _optimize(self, batches: Iterator[Batch]) -> float:
        """Take one optimiser step; returns the mean loss of its batches."""
        self._module.train()
        parts = self.runner.gradient_accumulate_steps
        split = self.runner.train_dataloader
        total = 0.0
        for part in range(parts):
            number = self.step * parts + part
            batch = next(batches)
            # Dropout and masks follow from the step, so that a resumed run draws the same.
            set_seed(derived_seed(STEP, self.plan.seed, number, self.fabric.global_rank))
            with self.fabric.no_backward_sync(self._module, enabled=part + 1 < parts):
                loss = self._forward(self._module, split, batch, number) * batch.weight
                self.fabric.backward(loss / parts)
            total += float(loss.detach()) / parts
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
        return total

    def _forward(self, module: nn.Module, split: str, batch: Batch, number: int) -> torch.Tensor:
        device = self.fabric.device
        wavs = [torch.from_numpy(wav).to(device) for wav in batch.wavs]
        features: Mapping[str, Any] | None = None
        if self._cache is not None:
            features = self._cache(batch.wavs, device)
        elif self.probe.upstream is None:
            with torch.no_grad(), self.fabric.autocast():
                features = self._upstream(wavs)
        loss: torch.Tensor = module(split, wavs, features, batch.others, number)
        return loss

    def _evaluate_dev(self) -> bool:
        """Measure the dev splits in the first process, the others waiting."""
        best = False
        if self.fabric.is_global_zero:
            for split in self.runner.eval_dataloaders:
                if split not in self.runner.test_dataloaders:
                    self.scores[split], better = self.evaluate(split)
                    best = best or better
        self.fabric.barrier()
        return best

    def _save(self, best: bool) -> None:
        if self.fabric.is_global_zero:
            state = RunState(
                step=self.step,
                config=self.plan.config,
                arguments=self.plan.arguments(),
                parts=self.probe.states(),
                optimizer=self._optimizer.state_dict(),
                scheduler=self._scheduler.state_dict() if self._scheduler is not None else {},
                scaler=loss_scale_state(self.fabric),
                scores=self.scores,
            )
            self.folder.save(state, best)
        self.fabric.barrier()

    def _log_training(self, steps: int) -> None:
        if self.fabric.is_global_zero:
            split = self.runner.train_dataloader
            count = steps * self.runner.gradient_accumulate_steps
            log = self._open_log()
            with quiet():
                self.probe.expert.log_records(
                    split,
                    records=self.probe.records,
                    logger=log,
                    global_step=self.step,
                    batch_ids=list(range(count)),
                    total_batch_num=count,
                )
            log.add_scalar("lr", self._optimizer.param_groups[0]["lr"], self.step)
        self.probe.records = new_records()


def _split_scores(latest: Mapping[str, float], split: str) -> dict[str, float]:
    """Return a split's scalars by metric; s3prl's experts tag them `task/split-metric`."""
    named = {tag.rpartition("/")[2]: value for tag, value in latest.items()}
    return {
        name.removeprefix(f"{split}-"): value
        for name, value in named.items()
        if name.startswith(f"{split}-")
    }
