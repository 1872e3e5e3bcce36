"""One downstream experiment, from what a user asked for to a result."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from ..config import merge
from ..errors import CheckpointError, ConfigError
from ..results import result_record
from ..runtime.devices import PRECISIONS, find_device
from ..runtime.randomness import own_randomness
from ..structures import TaskResult
from . import compat
from .config import RunnerConfig
from .data import without_paths
from .experts import build_expert, quiet
from .features import check_selection
from .optimizers import build_specaug
from .probe import Probe
from .request import Plan, Request, Setting, refuse_overwriting, resolve
from .runner import Runner
from .state import RunFolder, RunState, Scores, read_state
from .upstreams import Upstream, load_upstream

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
SWEEP = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # learning rates that SUPERB allows to choose from on dev
WAIT = timedelta(hours=12)  # for the process that evaluates


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    result: TaskResult | None
    """None in processes other than the first, and where the run was interrupted."""
    finished: bool = True


def run(request: Request) -> Outcome:
    """Run a downstream experiment.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    compat.apply()
    started = time.perf_counter()
    plan = resolve(request)
    fabric = build_fabric(plan.runner, request.device)
    fabric.launch()
    upstream = load_upstream(
        plan.arguments["upstream"],
        plan.arguments["upstream_ckpt"],
        plan.arguments["upstream_model_config"],
        fabric.device,
    )
    if fabric.is_global_zero:
        _prepare(plan)
        _say(plan, upstream)
    fabric.barrier()
    if plan.task.folder == "quesst14_dtw":
        from .qbe import evaluate_qbe  # late: nothing else needs it

        scores, notes = evaluate_qbe(
            plan.data.config,
            upstream.module,
            fabric.device,
            plan.folder,
            selection=plan.arguments["upstream_feature_selection"],
            layer=plan.arguments["upstream_layer_selection"],
            workers=plan.runner.num_workers,
        )
    else:
        swept = request.sweep if not request.evaluate else ()
        found = (_sweep if swept else _one)(plan, fabric, upstream, request)
        if found is None:
            return Outcome(plan.folder, None, finished=False)
        scores, notes = found
    if not fabric.is_global_zero:
        return Outcome(plan.folder, None)
    result = _result(plan, upstream, scores, notes, fabric, started)
    return Outcome(plan.folder, result)


def build_fabric(runner: RunnerConfig, device: str) -> Fabric:
    """Make Fabric for the devices and processes that the launcher gives.

    Raises:
        ConfigError: a device that is unknown or not there.
    """
    found = find_device(device)
    if runner.precision == "fp16" and found.type == "cpu":
        raise ConfigError("runner.precision=fp16 needs a GPU; say bf16 or fp32")
    precision = PRECISIONS[runner.precision]
    processes = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")))
    if processes == 1:
        devices: int | list[int] = 1 if found.index is None else [found.index]
        return Fabric(accelerator=found.type, devices=devices, precision=precision)
    return Fabric(
        accelerator=found.type,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy=DDPStrategy(find_unused_parameters=True, timeout=WAIT),
        precision=precision,
    )


def build_runner(plan: Plan, fabric: Fabric, upstream: Upstream, state: RunState | None) -> Runner:
    """Make the runner of a plan, its expert with weights that follow from the seed.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    from s3prl.upstream.interfaces import Featurizer

    arguments = plan.arguments
    selection, layer = (
        arguments["upstream_feature_selection"],
        arguments["upstream_layer_selection"],
    )
    check_selection(upstream.module, selection, layer, fabric.device)
    with own_randomness(int(arguments["seed"])):
        with quiet():
            featurizer = Featurizer(
                upstream.module,
                selection,
                upstream_device=fabric.device,
                layer_selection=layer,
                normalize=bool(arguments["upstream_feature_normalize"]),
            )
        width, rate = featurizer.output_dim, featurizer.downsample_rate
        expert = build_expert(plan.task, plan.data.config, arguments, width, rate)
    trained = upstream.module if arguments["upstream_trainable"] else None
    probe = Probe(featurizer, expert, trained, build_specaug(plan.data.config)).to(fabric.device)
    setting = Setting(
        task=plan.task,
        config=plan.data.config,
        arguments=arguments,
        selection=selection,
        layer=layer,
        rate=rate,
        seed=int(arguments["seed"]),
        folder=plan.folder,
    )
    return Runner(fabric, setting, upstream.module, probe, plan.runner, state)


def _one(
    plan: Plan, fabric: Fabric, upstream: Upstream, request: Request
) -> tuple[Scores, dict[str, Any]] | None:
    """Train, unless only evaluation is asked for, and test the best checkpoint once."""
    trained = _train(plan, fabric, upstream) if not request.evaluate else None
    if not request.evaluate and trained is None:
        return None
    runner = trained or build_runner(plan, fabric, upstream, None)
    path = plan.past if request.evaluate else RunFolder(plan.folder).best()
    return _test(runner, path, request.splits or plan.runner.test_dataloaders)


def _train(plan: Plan, fabric: Fabric, upstream: Upstream) -> Runner | None:
    """Train to the end; None where it was interrupted."""
    state = read_state(plan.past) if plan.past is not None else None
    runner = build_runner(plan, fabric, upstream, state)
    if state is not None:
        logger.info("going on from step %d", state.step)
    if state is None or state.step < plan.runner.total_steps:
        return runner if runner.train() else None
    return runner


def _test(
    runner: Runner, path: Path | None, splits: tuple[str, ...]
) -> tuple[Scores, dict[str, Any]]:
    """Measure the test splits with the best checkpoint, in the first process."""
    scores: Scores = {}
    notes: dict[str, Any] = {}
    if runner.fabric.is_global_zero:
        assert path is not None, "training leaves a checkpoint"
        state = read_state(path)
        runner.load(state)
        scores = dict(state.scores)
        notes = {"checkpoint": path.name, "step": state.step}
        for split in splits:
            scores[split], _ = runner.evaluate(split)
        runner.close()
    runner.fabric.barrier()
    return scores, notes


def _sweep(
    plan: Plan, fabric: Fabric, upstream: Upstream, request: Request
) -> tuple[Scores, dict[str, Any]] | None:
    """Train once a learning rate, and test the one that is best on dev."""
    task = plan.task
    if not task.metric:
        raise ConfigError(f"--lr-sweep: no metric is known to compare {task.name} by")
    by_rate: dict[str, float] = {}
    runners: dict[str, tuple[Runner, Path]] = {}
    for rate in request.sweep:
        folder = plan.folder / f"lr-{rate:g}"
        own = RunFolder(folder)
        refuse_overwriting(own, request.auto_resume)
        config = merge(plan.data.config, {"optimizer": {"lr": rate}})
        arguments = {**plan.arguments, "expdir": str(folder)}
        inner = replace(
            plan,
            data=replace(plan.data, config=config),
            arguments=arguments,
            folder=folder,
            past=own.last(),
        )
        folder.mkdir(parents=True, exist_ok=True)
        runner = _train(inner, fabric, upstream)
        path = own.best()
        if runner is None or path is None:
            return None
        by_rate[f"{rate:g}"] = read_state(path).scores[task.dev][task.metric]
        runners[f"{rate:g}"] = runner, path
    sign = 1 if task.higher_is_better else -1
    chosen = max(by_rate, key=lambda rate: sign * by_rate[rate])
    logger.info("learning rate %s is the best on dev of %s", chosen, by_rate)
    runner, path = runners[chosen]
    scores, notes = _test(runner, path, plan.runner.test_dataloaders)
    return scores, {**notes, "learning_rate": float(chosen), "dev_by_learning_rate": by_rate}


def _prepare(plan: Plan) -> None:
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plan.data.config, sort_keys=False, allow_unicode=True)
        (plan.folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write to '{plan.folder}': {error.strerror}") from error


def _say(plan: Plan, upstream: Upstream) -> None:
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
    arguments, runner = plan.arguments, plan.runner
    trained = {
        "steps": runner.total_steps,
        "gradient_accumulate_steps": runner.gradient_accumulate_steps,
        "optimizer": plan.data.config.get("optimizer") or {},
        "precision": runner.precision,
        "feature_cache": "off" if arguments["upstream_trainable"] else runner.feature_cache,
        "batch": "over all processes",
        "best": "on dev; the test splits are measured once, with the best",
    }
    return result_record(
        started=started,
        task=plan.task.name,
        system=upstream.name,
        size=upstream.size,
        corpus=plan.data.corpus,
        checkpoint=upstream.shown_source,
        checkpoint_hash=upstream.digest,
        metrics=scores,
        protocol={
            "title": plan.task.title,
            "metric": plan.task.metric,
            "higher_is_better": plan.task.higher_is_better,
            "features": arguments["upstream_feature_selection"],
            "layer": arguments["upstream_layer_selection"],
            "normalize": arguments["upstream_feature_normalize"],
            "upstream_trained": arguments["upstream_trainable"],
            **(trained if plan.task.folder != "quesst14_dtw" else {}),
            **notes,
            "expert": without_paths(plan.data.config["downstream_expert"]),
            "device": fabric.device.type,
            "processes": fabric.world_size,
            "notes": list(plan.data.notes),
        },
        seed=int(arguments["seed"]),
        mini=plan.data.mini or upstream.size == "mini",
    )
