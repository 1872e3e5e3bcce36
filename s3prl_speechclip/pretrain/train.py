"""A pretraining run, from a configuration to an experiment folder."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from ..checkpoints import read
from ..checkpoints.native import StoredModel
from ..data.manifest import Manifest
from ..encoders.shipped import SHIPPED
from ..encoders.spectral_start import learn_spectrum
from ..encoders.vocabulary import find_vocabulary, shipped_tokens
from ..errors import CheckpointError, ConfigError, TrainingError, first_line
from ..model.config import find_variant
from ..model.embedding import RetrievalSet, SpeechEmbeddings, embed_images, embed_speech, in_order
from ..model.speechclip import SpeechClip
from ..modules.losses import MaskedInfoNCE
from ..modules.quantizer import CosineQuantizer
from ..modules.recall import recall_at_k
from ..runtime.devices import (
    build_fabric,
    keep_freed_memory,
    loss_scale_state,
    restore_loss_scale,
    return_freed_memory,
)
from ..runtime.distributed import StopSignal, all_true, broadcast_parameters, gather_objects
from ..runtime.log import ScalarLog, draw_curves
from ..runtime.optimization import build_optimizer, learning_rate, set_learning_rate
from ..runtime.randomness import random_state, restore_random_state
from ..structures import PairBatch
from .config import PretrainConfig
from .corpus import TrainingData, load_manifest
from .formal import FormalSupervision
from .resume import (
    Start,
    TrainerState,
    choose_start,
    find_checkpoints,
    prepare_folder,
    resumed_config,
    save_checkpoint,
)
from .step import PretrainStep, backward_in_chunks

logger = logging.getLogger(__name__)

NONFINITE_FILE = "nonfinite.jsonl"
SKIPPED_IN_A_ROW = 100  # steps, after which not single recordings but the weights are at fault


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    interrupted: bool


def pretrain(
    config: PretrainConfig,
    folder: Path,
    *,
    start: Start | None = None,
    auto_resume: bool = False,
    device: str = "auto",
) -> Outcome:
    """Train a model and write everything about it to a folder.

    SIGTERM and SIGINT end training after the current step, with a checkpoint.

    Args:
        config: configuration of the run.
        folder: experiment folder; made where it is missing.
        start: weights and state to start from; None: new weights.
        auto_resume: resume from the folder's newest checkpoint, if it has one.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        SpeechClipError: an error that a user can cause, on one line.
    """
    start = choose_start(folder, start or Start(), auto_resume)
    if start.state is not None and start.folder == folder:
        config = resumed_config(folder, config)
    state, runner = start.state or TrainerState(), config.runner
    fabric = build_fabric(
        device,
        runner.precision,
        find_unused_parameters=config.model.speech_encoder.trainable or config.model.clip.trainable,
    )
    fabric.launch()
    if runner.gradient_cache > 1 and fabric.world_size > 1:
        raise ConfigError(
            f"runner.gradient_cache is for one process, found {fabric.world_size}; set it to 1, "
            "each process has a share of the batch"
        )
    fabric.seed_everything(config.seed, verbose=False)

    with fabric.rank_zero_first():
        manifest = load_manifest(config)
    model = _build_model(config, manifest, start.model)
    fabric.to_device(model)
    data = TrainingData(config, manifest, model, fabric)

    # Each process draws its own dropout; the model above is the same in all.
    fabric.seed_everything(config.seed + fabric.global_rank, verbose=False)
    step = PretrainStep(model, _supervise(config, data.manifest, model, fabric, state))
    module, optimizer = fabric.setup(step, build_optimizer(config.optimizer, model.parameters()))
    if start.state is not None:
        try:
            optimizer.load_state_dict(dict(state.optimizer))
        except ValueError as fault:
            raise ConfigError(
                f"the past run trained other weights than this one would ({first_line(fault)}); "
                "begin anew with its weights: -i RUN"
            ) from fault
        restore_loss_scale(fabric, state.scaler)
        restore_random_state(state.random_state(fabric.global_rank))
    log = None
    if fabric.is_global_zero:
        prepare_folder(folder, config, start.state)
        _log_summary(config, model, data, folder, fabric, state)
        log = ScalarLog(folder, state.step)
    fabric.barrier()
    if start.model is None and runner.spectral_start_steps and _trains_from_random(config):
        recordings = (speech.to(fabric.device) for speech in data.recordings())
        steps = runner.spectral_start_steps
        error = learn_spectrum(model.speech_encoder, recordings, steps, fabric.autocast())
        broadcast_parameters(model.speech_encoder)
        logger.info("spectrum learned in %d steps: %.2f of its variance is left", steps, error)

    def save() -> None:
        states = gather_objects(random_state())
        rng = {f"{rank}/{name}": s for rank, own in enumerate(states) for name, s in own.items()}
        if fabric.is_global_zero:
            complete = replace(
                state,
                optimizer=optimizer.state_dict(),
                scaler=loss_scale_state(fabric),
                rng=rng,
                formal={} if step.formal is None else step.formal.state(),
            )
            about = _describe_training(config, data, fabric, state)
            save_checkpoint(folder, model.stored(about), complete, runner.max_keep)
        fabric.barrier()

    if fabric.device.type == "cpu":
        keep_freed_memory()
    parts = runner.gradient_accumulate_steps
    loss_is_scaled = bool(loss_scale_state(fabric))
    batches = data.batches(state.step * parts)
    saved_step = state.step if start.folder == folder else -1
    skipped_in_a_row = examples = 0
    shown: dict[str, float] = {}
    started = time.perf_counter()
    bar = tqdm(
        total=runner.total_steps,
        initial=state.step,
        desc=config.model.variant,
        unit="step",
        disable=not fabric.is_global_zero,
        dynamic_ncols=True,
    )
    module.train()
    with bar, StopSignal(fabric) as stop:
        while state.step < runner.total_steps and not stop.requested():
            rate = learning_rate(
                config.scheduler, config.optimizer.lr, state.step, runner.total_steps
            )
            set_learning_rate(optimizer, rate)
            # Statistics of batch norms, which a step that is skipped must not have changed.
            kept = [b.clone() for b in model.buffers()] if runner.nonfinite == "skip" else []
            taken: list[PairBatch] = []
            is_finite = True
            for part in range(parts):
                batch = next(batches).to(fabric.device)
                with fabric.no_backward_sync(module, enabled=part + 1 < parts):
                    if runner.gradient_cache == 1:
                        output = module(batch, state.step)
                        fabric.backward(output.loss / parts)
                    else:
                        chunks, scale = runner.gradient_cache, 1 / parts
                        output = backward_in_chunks(fabric, step, batch, state.step, chunks, scale)
                is_finite = is_finite and bool(output.loss.isfinite())
                taken.append(batch)
            norm = fabric.clip_gradients(
                module,
                optimizer,
                max_norm=runner.gradient_clipping or math.inf,
                error_if_nonfinite=False,
            )
            state = replace(state, step=state.step + 1)
            # fp16's loss scale is found by letting gradients overflow: such a step it skips itself.
            is_finite = is_finite and (loss_is_scaled or bool(norm.isfinite()))
            is_finite = all_true(is_finite, fabric.device)
            if is_finite or loss_is_scaled:
                optimizer.step()
            skipped_in_a_row = 0 if is_finite else skipped_in_a_row + 1
            if not is_finite:
                ids = [name for batch in taken for name in data.utterance_ids(batch)]
                terms = {**output.losses, "gradient norm": norm}
                problem = _record_nonfinite(folder, fabric, state.step, terms, ids)
                if runner.nonfinite == "stop" or skipped_in_a_row == SKIPPED_IN_A_ROW:
                    newest = next(reversed(find_checkpoints(folder).values()), "none yet")
                    raise TrainingError(
                        f"{problem}; last good checkpoint: {newest}; lower optimizer.lr, or skip "
                        "single steps with runner.nonfinite=skip"
                    )
                logger.warning("%s; the step is skipped", problem)
                state = replace(state, skipped=state.skipped + 1)
                for buffer, value in zip(model.buffers(), kept, strict=True):
                    buffer.copy_(value)
            optimizer.zero_grad()
            examples += sum(len(batch.pair_ids) for batch in taken) * fabric.world_size
            is_last = state.step == runner.total_steps

            if state.step % runner.log_step == 0 or is_last:
                losses = {name: value.detach() for name, value in output.losses.items()}
                losses = fabric.all_reduce(losses, reduce_op="mean")  # each has its own rows'
                values: dict[str, Any] = {"loss": sum(losses.values())}
                values |= {f"loss/{name}": value for name, value in losses.items()}
                values |= {**output.report, "lr": rate}
                values["examples_per_second"] = examples / (time.perf_counter() - started)
                if runner.nonfinite == "skip":
                    values["skipped_steps"] = state.skipped
                started, examples = time.perf_counter(), 0
                shown |= {name: float(value) for name, value in values.items()}
                if log is not None:
                    log.add(state.step, {name: shown[name] for name in values})
            paused = time.perf_counter()
            is_measured = runner.eval_step > 0 and (state.step % runner.eval_step == 0 or is_last)
            if is_measured:
                recalls = evaluate(model, data.validation, fabric)
                shown |= recalls
                if log is not None:
                    log.add(state.step, recalls)
                if recalls["recall@10"] > state.best_recall:
                    state = replace(state, best_step=state.step, best_recall=recalls["recall@10"])
                return_freed_memory()
            if is_measured or state.step % runner.save_step == 0:
                save()
                saved_step = state.step
                started += time.perf_counter() - paused
            bar.set_postfix(_progress(shown), refresh=False)
            bar.update()
        if saved_step != state.step:
            save()
    if log is not None:
        log.close()
        draw_curves(folder)
    return Outcome(state.step, interrupted=state.step < runner.total_steps)


@torch.no_grad()
def evaluate(
    model: SpeechClip, splits: Mapping[str, RetrievalSet], fabric: Fabric
) -> dict[str, float]:
    """Measure recall on validation splits, in percent, by split and embedding; all processes do.

    `recall@10` is the mean over splits of each model's first embedding.
    """
    training = model.training
    model.eval()
    figures: dict[str, float] = {}
    first = []
    for name, split in splits.items():
        share = split.batches[fabric.global_rank :: fabric.world_size]
        with fabric.autocast():
            speech = _merge(gather_objects(embed_speech(model, split, share)))
            images = embed_images(model, split)
        for kind, vectors in speech.by_name.items():
            recall = recall_at_k(vectors, images, speech.pair_ids, split.image_ids)
            figures |= {f"recall@{k}/{name}/{kind}": v for k, v in recall["mean"].items()}
        first.append(figures[f"recall@10/{name}/{next(iter(speech.by_name))}"])
    figures["recall@10"] = sum(first) / len(first)
    model.train(training)
    return figures


def _build_model(
    config: PretrainConfig, manifest: Manifest, stored: StoredModel | None
) -> SpeechClip:
    if stored is None:
        captions = [u.caption or u.text for u in manifest.split(manifest.train_split)]
        clip = config.model.clip
        vocabulary = find_vocabulary(clip.vocabulary, captions)
        if clip.vocabulary == "corpus" and clip.pretrained == SHIPPED:
            vocabulary = shipped_tokens(vocabulary)
        model = SpeechClip(config.model, vocabulary)
        if config.init:
            _warm_start(model, config)
        return model
    if stored.config.variant != config.model.variant:
        raise CheckpointError(
            f"the checkpoint is a {stored.config.variant}, not a {config.model.variant}"
        )
    own, kept = config.model, stored.config
    # A preset's architecture is not that of the encoder which another name brought.
    speech = replace(own.speech_encoder, architecture=kept.speech_encoder.architecture)
    if "speech_encoder" not in stored.encoders:  # whatever a file or an option names
        known = kept.speech_encoder
        speech = replace(speech, name=known.name, pretrained=known.pretrained)
    clip = own.clip
    if "clip" not in stored.encoders:
        clip = replace(clip, name=kept.clip.name, pretrained=kept.clip.pretrained)
    changed = replace(own, speech_encoder=speech, clip=clip)
    model = SpeechClip.from_stored(replace(stored, config=changed))
    _set_fixed_temperatures(model)
    return model


def _trains_from_random(config: PretrainConfig) -> bool:
    """Return whether the speech encoder is trained from random weights."""
    encoder = config.model.speech_encoder
    parts = config.init_parts if config.init else ()
    started = any("speech_encoder.".startswith(p) or p.startswith("speech_encoder") for p in parts)
    return encoder.trainable and not encoder.pretrained and not started


def _set_fixed_temperatures(model: SpeechClip) -> None:
    """Set the temperatures that are not learned to those of the configuration."""
    for module in model.modules():
        if isinstance(module, (CosineQuantizer, MaskedInfoNCE)):
            module.set_fixed_temperature()


def _supervise(
    config: PretrainConfig,
    manifest: Manifest,
    model: SpeechClip,
    fabric: Fabric,
    state: TrainerState,
) -> FormalSupervision | None:
    """Build the formal supervision of a run that has a weight for it."""
    objective = config.model.objective
    if not (objective.perplexity_weight or objective.adversarial_weight):
        return None
    one_process = fabric.world_size == 1 and config.runner.gradient_cache == 1
    if not one_process or config.model.clip.trainable:
        raise ConfigError(
            "model.objective.perplexity_weight and adversarial_weight are for one process, without "
            "runner.gradient_cache, and for a frozen CLIP; set them to 0"
        )
    return FormalSupervision(config, manifest, model, state.formal)


def _warm_start(model: SpeechClip, config: PretrainConfig) -> None:
    """Replace the new weights that another model has, by name and shape."""
    own = model.state_dict()
    taken = {
        name: value
        for name, value in read(config.init).state.items()
        if name.startswith(config.init_parts) and name in own and own[name].shape == value.shape
    }
    if not taken:
        parts = ", ".join(config.init_parts)
        raise ConfigError(
            f"init: '{config.init}' shares no weight of {parts} with the new model; choose others "
            "with init_parts, such as init_parts=[branch.head]"
        )
    model.load_state_dict(taken, strict=False)
    _set_fixed_temperatures(model)
    logger.info("%d weights begin as those of %s: %s", len(taken), config.init, ", ".join(taken))


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


def _record_nonfinite(
    folder: Path, fabric: Fabric, step: int, values: Mapping[str, Tensor], ids: list[str]
) -> str:
    """Append a step whose loss is not finite to a file, and describe it on one line."""
    path = folder / NONFINITE_FILE
    every = [name for part in gather_objects(ids) for name in part]
    found = {name: float(value.detach()) for name, value in values.items()}
    if fabric.is_global_zero:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **found, "recordings": every}) + "\n")
    terms = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    return (
        f"step {step}: the loss or its gradient is not finite ({terms}) on the recordings "
        f"{', '.join(every[:4])}, ... ({len(every)}, listed in '{path}')"
    )


def _describe_training(
    config: PretrainConfig, data: TrainingData, fabric: Fabric, state: TrainerState
) -> dict[str, Any]:
    """Return what a checkpoint says about its training."""
    gpu = fabric.device if fabric.device.type == "cuda" else None
    name = fabric.device.type.upper() if gpu is None else torch.cuda.get_device_name(gpu)
    measured = {"validation_recall@10": round(state.best_recall, 4)} if state.best_step else {}
    return {
        **data.about(),
        "mini": data.manifest.mini or config.model.size == "mini",
        "step": state.step,
        "best_step": state.best_step,
        "seed": config.seed,
        "batch_size": config.data.batch_size,
        "hardware": f"{fabric.world_size} x {name}",
        **measured,
    }


def _log_summary(
    config: PretrainConfig,
    model: SpeechClip,
    data: TrainingData,
    folder: Path,
    fabric: Fabric,
    state: TrainerState,
) -> None:
    about = data.about()
    hours = f", {about['hours']:.1f} h" if about["hours"] else ""
    lines = [
        f"{config.model.variant} on {about['corpus']}: {about['recordings']:,} recordings{hours}",
        *(f"  {note}" for note in data.manifest.notes),
        f"{model.trainable_parameters():,} parameters trained, {fabric.device.type} x "
        f"{fabric.world_size}, batch {config.data.batch_size}, {config.runner.total_steps} steps, "
        f"in {folder}",
    ]
    timed = about["recordings_with_word_times"]
    by_times = find_variant(config.model.variant).keywords == "words"
    if by_times and config.model.words.segmenter == "times" and timed < about["recordings"]:
        lines.append(
            f"{timed:,} of these recordings have word times; the others are cut by minimum cut"
        )
    if state.step:
        lines.append(f"resuming after step {state.step}")
    logger.info("%s", "\n".join(lines))


def _progress(shown: Mapping[str, float]) -> dict[str, str]:
    """Format the figures that the progress bar shows."""
    losses = {k.removeprefix("loss/"): f"{v:.3f}" for k, v in shown.items() if k[:4] == "loss"}
    others = (("recall@10", "R@10", ".1f"), ("examples_per_second", "ex/s", ".0f"))
    return losses | {name: format(shown[k], form) for k, name, form in others if k in shown}
