"""One downstream experiment, from a request to a result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric import Fabric

from ..config import merge
from ..errors import CheckpointError, ConfigError
from ..results import result_record
from ..runtime.devices import build_fabric
from ..runtime.distributed import gather_objects
from ..structures import TaskResult
from . import compat
from .plan import Plan, check_settings, completed, read_own, refuse_overwriting, resolve
from .recordings import take_converted
from .request import Request
from .run_state import RunFolder, Weights, read_state
from .settings import without_paths
from .task import EXPERT, Scores
from .training import Training
from .upstreams import Upstream, load_upstream

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"

Measured = tuple[Scores, Mapping[str, Any]]
"""Metrics by split, and notes for the protocol."""


@dataclass(frozen=True)
class Experiment:
    """An experiment after its run."""

    folder: Path
    result: TaskResult | None
    """None in processes other than the first, and where the run was interrupted."""


def run(request: Request) -> Experiment:
    """Resolve a request and run it."""
    return run_plan(resolve(request))


def run_plan(plan: Plan) -> Experiment:
    """Run a downstream experiment.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    compat.apply()
    take_converted()  # those of an earlier run in this process
    started = time.perf_counter()
    request = plan.request
    fabric = build_fabric(request.device, plan.runner.precision)
    fabric.launch()
    upstream = load_upstream(
        str(request.upstream), request.checkpoint, request.upstream_config, fabric.device
    )
    plan = replace(plan, weights=Weights(upstream.weights, upstream.digest))
    if fabric.is_global_zero:
        _write_config(plan)
        _log_plan(plan, upstream)
    fabric.barrier()
    if plan.task.evaluate is not None:
        measured: Measured | None = plan.task.evaluate(plan, upstream.module, fabric.device)
    elif request.evaluate:
        assert plan.past is not None, "resolve finds the checkpoint"
        training = Training(fabric, [plan], upstream)
        training.prepare(*plan.splits)
        measured = _test(training, 0, plan.past)
    elif request.sweep:
        measured = _sweep(plan, fabric, upstream)
    else:
        trained = _train([plan], fabric, upstream)
        measured = None if trained is None else _test(trained, 0, RunFolder(plan.folder).best())
    converted = set().union(*gather_objects(take_converted()))
    if measured is None or not fabric.is_global_zero:
        return Experiment(plan.folder, None)
    scores, notes = measured
    notes = {**notes, "recordings_converted_to_16_khz_mono": len(converted)}
    if upstream.batch_invariant is not None:
        notes["batch_invariant"] = upstream.batch_invariant
    return Experiment(plan.folder, _result(plan, upstream, scores, notes, fabric, started))


def _train(plans: Sequence[Plan], fabric: Fabric, upstream: Upstream) -> Training | None:
    """Train to the last step; None where it was interrupted."""
    states = [read_own(plan, plan.past) if plan.past is not None else None for plan in plans]
    training = Training(fabric, plans, upstream)
    for state in filter(None, states):
        logger.info("resuming from step %d", state.step)
    if all(state is not None and state.step >= plans[0].runner.total_steps for state in states):
        training.prepare(*plans[0].splits)
        return training
    return training if training.train(states) else None


def _test(training: Training, trial: int, path: Path | None) -> Measured:
    """Measure a plan's splits with a checkpoint of a trial, in the first process."""
    scores: Scores = {}
    notes: dict[str, Any] = {}
    if training.fabric.is_global_zero:
        assert path is not None, "training leaves a checkpoint"
        chosen = training.trials[trial]
        state = read_own(chosen.plan, path)
        chosen.load(state)
        scores = {} if chosen.plan.moved else dict(state.scores)
        notes = {"checkpoint": path.name, "step": state.step}
        for split in chosen.plan.splits:
            scores[split], _ = training.evaluate(chosen, split)
        chosen.close()
    training.fabric.barrier()
    return scores, {**notes, "cache": training.features.about()}


def _sweep(plan: Plan, fabric: Fabric, upstream: Upstream) -> Measured | None:
    """Train a probe a learning rate, side by side, and test the one that is best on dev."""
    task = plan.task
    if not task.metrics:
        raise ConfigError(f"--lr-sweep: no metric is known to compare {task.name} by")
    metric = task.metrics[0]
    plans = []
    for rate in plan.request.sweep:
        folder = RunFolder(plan.folder / f"lr-{rate:g}")
        refuse_overwriting(folder, plan.request.auto_resume)
        folder.path.mkdir(parents=True, exist_ok=True)
        config = merge(plan.config, {"optimizer": {"lr": rate}})
        past = folder.last()
        kept = plan.cache
        if past is not None:
            state = read_state(past)
            completed(plan.request, state)
            check_settings(config, state)
            kept = state.cache
        plans.append(replace(plan, config=config, folder=folder.path, past=past, cache=kept))
    training = _train(plans, fabric, upstream)
    best = [RunFolder(each.folder).best() for each in plans]
    if training is None or not all(best):
        return None
    rates = [f"{rate:g}" for rate in plan.request.sweep]
    scores = [read_state(path).scores[task.dev][metric.key] for path in best if path is not None]
    by_rate = dict(zip(rates, scores, strict=True))
    sign = 1 if metric.higher_is_better else -1
    chosen = max(range(len(rates)), key=lambda place: sign * scores[place])
    logger.info("learning rate %s is the best on dev of %s", rates[chosen], by_rate)
    measured, notes = _test(training, chosen, best[chosen])
    found = {"learning_rate": float(rates[chosen]), "dev_by_learning_rate": by_rate}
    return measured, {**notes, **found}


def _write_config(plan: Plan) -> None:
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plan.config, sort_keys=False, allow_unicode=True)
        (plan.folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write to '{plan.folder}': {error.strerror}") from error


def _log_plan(plan: Plan, upstream: Upstream) -> None:
    label = " [mini: not comparable with published figures]" if plan.data.mini else ""
    logger.info("%s on %s%s", upstream.name, plan.data.corpus, label)
    for note in plan.data.notes:
        logger.info("  %s", note)
    logger.info("corpus %s, experiment %s", plan.data.root, plan.folder)


def _result(
    plan: Plan,
    upstream: Upstream,
    scores: Scores,
    notes: Mapping[str, Any],
    fabric: Fabric,
    started: float,
) -> TaskResult:
    request, runner, task = plan.request, plan.runner, plan.task
    trained = {
        "steps": runner.total_steps,
        "gradient_accumulate_steps": runner.gradient_accumulate_steps,
        "optimizer": plan.config.get("optimizer") or {},
        "precision": runner.precision,
        "batch": "over all processes",
        "best": "on dev; the test splits are measured once, with the best",
    }
    return result_record(
        started=started,
        task=task.name,
        system=upstream.name,
        size=upstream.size,
        corpus=plan.data.corpus,
        checkpoint=upstream.shown_source,
        checkpoint_hash=upstream.digest,
        metrics=scores,
        protocol={
            "title": task.title,
            "metric": task.metrics[0].key if task.metrics else "",
            "higher_is_better": task.metrics[0].higher_is_better if task.metrics else True,
            "features": request.selection,
            "layer": request.layer,
            "variant": request.variant,
            "normalize": request.normalize,
            "upstream_trained": request.trainable,
            **(trained if task.evaluate is None else {}),
            **notes,
            "expert": without_paths(plan.config[EXPERT]),
            "device": fabric.device.type,
            "processes": fabric.world_size,
            "notes": list(plan.data.notes),
        },
        seed=plan.seed,
        mini=plan.data.mini or upstream.size == "mini",
    )
