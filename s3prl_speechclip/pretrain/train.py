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
from torch import Tensor, nn
from tqdm import tqdm

from ..checkpoints.native import StoredModel
from ..data.manifest import Manifest
from ..encoders.image_features import load_image_table
from ..encoders.spectral_start import learn_spectrum
from ..encoders.speech_features import cached_features
from ..encoders.vocabulary import find_vocabulary
from ..errors import CheckpointError, TrainingError
from ..model.embedding import RetrievalSet, SpeechEmbeddings, embed_images, embed_speech, in_order
from ..model.speechclip import SpeechClip
from ..modules.quantizer import code_perplexity
from ..modules.recall import recall_at_k
from ..runtime.allocation import KeptMemory
from ..runtime.devices import build_fabric, loss_scale_state, restore_loss_scale
from ..runtime.distributed import all_true, broadcast_parameters, gather, gather_objects
from ..runtime.log import ScalarLog, draw_curves
from ..runtime.optimization import build_optimizer, learning_rate, set_learning_rate
from ..runtime.randomness import random_state, restore_random_state
from ..runtime.signals import StopSignal
from ..structures import PairBatch, SpeechOutput, StepOutput
from .config import PretrainConfig
from .corpus import TrainingData, load_manifest
from .resume import (
    Start,
    TrainerState,
    choose_start,
    find_checkpoints,
    prepare_folder,
    save_checkpoint,
)

logger = logging.getLogger(__name__)

NONFINITE_FILE = "nonfinite.jsonl"
SKIPPED_IN_A_ROW = 100  # steps, after which not single recordings but the weights are at fault


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    step: int
    interrupted: bool


class PretrainStep(nn.Module):
    """A model and its objective, as one module that Fabric and DDP can wrap."""

    def __init__(self, model: SpeechClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch, step: int) -> StepOutput:
        """Compute the losses of a batch that is shared by all processes.

        Args:
            batch: this process's share.
            step: steps taken before this one; CIF scales its quantity to the target in the first.
        """
        model = self.model
        scaling_steps = model.config.cif.scaling_steps
        scaling = scaling_steps < 0 or step < scaling_steps
        output = model(batch.speech, scaling=scaling, frames=False)
        gathered = replace(
            output,
            parallel=None if output.parallel is None else gather(output.parallel),
            cascaded=None if output.cascaded is None else gather(output.cascaded),
        )
        images = gather(model.clip.encode_images(batch.images))
        pair_ids = gather(batch.pair_ids)
        losses = model.objective(gathered, images, pair_ids)
        if model.config.clip.trainable and model.config.objective.text_weight > 0:
            texts = gather(model.clip.encode_text(batch.texts))
            weight = model.config.objective.text_weight
            losses["text"] = weight * model.contrast(texts, images, pair_ids)
        return StepOutput(losses, self._report(output))

    @torch.no_grad()
    def _report(self, output: SpeechOutput) -> dict[str, float]:
        report = {"logit_scale": float(self.model.contrast.logit_scale)}
        if output.keywords is not None:
            token_ids = output.keywords.token_ids
            vocabulary_size = int(self.model.clip.vocabulary.max()) + 1
            report["keywords"] = float(output.keywords.lengths.float().mean())
            report["code_perplexity"] = float(
                code_perplexity(token_ids[token_ids > 0], vocabulary_size)
            )
        return report


def _gather_embeddings(output: SpeechOutput) -> SpeechOutput:
    return replace(
        output,
        parallel=None if output.parallel is None else gather(output.parallel),
        cascaded=None if output.cascaded is None else gather(output.cascaded),
    )


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
    state, runner = start.state or TrainerState(), config.runner
    fabric = build_fabric(
        device,
        runner.precision,
        find_unused_parameters=config.model.speech_encoder.trainable or config.model.clip.trainable,
    )
    fabric.launch()
    fabric.seed_everything(config.seed, verbose=False)

    # The first process fetches, computes and caches; the others then read.
    is_first = fabric.is_global_zero
    with fabric.rank_zero_first():
        manifest = load_manifest(config)
    model = _build_model(config, manifest, start.model)
    fabric.to_device(model)
    with fabric.rank_zero_first():
        images, manifest = load_image_table(
            model.clip,
            manifest,
            (manifest.train_split, *manifest.dev_splits),
            skip_broken=config.data.skip_broken,
            show_progress=is_first,
        )
    with fabric.rank_zero_first():
        features = cached_features(
            model.speech_encoder,
            manifest,
            (manifest.train_split, *manifest.dev_splits),
            when=config.data.cache_features,
            batch_size=config.data.eval_batch_size,
            workers=config.data.num_workers,
            skip_broken=config.data.skip_broken,
            show_progress=is_first,
        )
    data = TrainingData(config, manifest, images, features, fabric.global_rank, fabric.world_size)

    # Each process draws its own dropout; the model above is the same in all.
    fabric.seed_everything(config.seed + fabric.global_rank, verbose=False)
    module, optimizer = fabric.setup(
        PretrainStep(model), build_optimizer(config.optimizer, model.parameters())
    )
    if start.state is not None:
        optimizer.load_state_dict(dict(state.optimizer))
        restore_loss_scale(fabric, state.scaler)
        restore_random_state(state.random_state(fabric.global_rank))
    log = None
    if is_first:
        prepare_folder(folder, config, start.state)
        _log_summary(config, model, data, folder, fabric, state)
        log = ScalarLog(folder, state.step)
    fabric.barrier()
    if start.model is None and model.speech_encoder.trainable and runner.spectral_start_steps:
        recordings = (speech.to(fabric.device) for speech in data.recordings())
        steps = runner.spectral_start_steps
        error = learn_spectrum(model.speech_encoder, recordings, steps, fabric.autocast())
        broadcast_parameters(model.speech_encoder)
        logger.info("spectrum learned in %d steps: %.2f of its variance is left", steps, error)

    def save() -> None:
        states = gather_objects(random_state())
        rng = {f"{rank}/{name}": s for rank, own in enumerate(states) for name, s in own.items()}
        if is_first:
            complete = replace(
                state, optimizer=optimizer.state_dict(), scaler=loss_scale_state(fabric), rng=rng
            )
            about = _describe_training(config, data, fabric, state)
            save_checkpoint(folder, model.stored(about), complete, runner.max_keep)
        fabric.barrier()

    memory = KeptMemory() if fabric.device.type == "cpu" else None
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
        disable=not is_first,
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
                    output = module(batch, state.step)
                    fabric.backward(output.loss / parts)
                is_finite = is_finite and bool(output.loss.isfinite())
                taken.append(batch)
            norm = fabric.clip_gradients(
                module,
                optimizer,
                max_norm=runner.gradient_clipping or math.inf,
                error_if_nonfinite=False,
            )
            # fp16's loss scale is found by letting gradients overflow: such a step it skips itself.
            is_finite = is_finite and (loss_is_scaled or bool(norm.isfinite()))
            state = replace(state, step=state.step + 1)
            if all_true(is_finite, fabric.device):
                skipped_in_a_row = 0
                optimizer.step()
            else:
                ids = [name for batch in taken for name in data.utterance_ids(batch)]
                problem = _report_nonfinite(folder, fabric, state.step, output.losses, norm, ids)
                skipped_in_a_row += 1
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
                if loss_is_scaled:
                    optimizer.step()
            optimizer.zero_grad()
            examples += sum(len(batch.pair_ids) for batch in taken) * fabric.world_size
            bar.update()
            is_last = state.step == runner.total_steps

            if state.step % runner.log_step == 0 or is_last:
                values = {"loss": float(output.loss.detach())}
                values |= {f"loss/{k}": float(v.detach()) for k, v in output.losses.items()}
                values |= {**output.report, "lr": rate}
                values["examples_per_second"] = examples / (time.perf_counter() - started)
                if runner.nonfinite == "skip":
                    values["skipped_steps"] = state.skipped
                started, examples = time.perf_counter(), 0
                shown |= values
                if log is not None:
                    log.add(state.step, values)
                if memory is not None:
                    memory.return_surplus()
            if state.step % runner.eval_step == 0 or is_last:
                paused = time.perf_counter()
                recalls = evaluate(model, data.validation, fabric)
                shown |= recalls
                if log is not None:
                    log.add(state.step, recalls)
                if recalls["recall@10"] > state.best_recall:
                    state = replace(state, best_step=state.step, best_recall=recalls["recall@10"])
                save()
                saved_step = state.step
                started += time.perf_counter() - paused
            elif state.step % runner.save_step == 0:
                save()
                saved_step = state.step
            bar.set_postfix(_progress(shown), refresh=False)
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
        vocabulary = find_vocabulary(config.model.clip.vocabulary, captions)
        return SpeechClip(config.model, vocabulary)
    if stored.config.variant != config.model.variant:
        raise CheckpointError(
            f"the checkpoint is a {stored.config.variant}, not a {config.model.variant}"
        )
    return SpeechClip.from_stored(replace(stored, config=config.model))


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


def _report_nonfinite(
    folder: Path,
    fabric: Fabric,
    step: int,
    losses: Mapping[str, Tensor],
    norm: Tensor,
    ids: list[str],
) -> str:
    """Append a step whose loss is not finite to a file, and describe it on one line."""
    path = folder / NONFINITE_FILE
    every = [name for part in gather_objects(ids) for name in part]
    values = {name: float(value.detach()) for name, value in losses.items()}
    values["gradient norm"] = float(norm)
    if fabric.is_global_zero:
        record = {"step": step, **values, "recordings": every}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    return (
        f"step {step}: the loss or its gradient is not finite ({terms}) on the recordings "
        f"{', '.join(every[:4])}, ... ({len(every)}, listed in '{path}')"
    )


def _describe_training(
    config: PretrainConfig, data: TrainingData, fabric: Fabric, state: TrainerState
) -> dict[str, Any]:
    """Return what a checkpoint says about its training."""
    device = fabric.device
    is_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else device.type.upper()
    return {
        **data.about(),
        "mini": data.manifest.mini or config.model.size == "mini",
        "step": state.step,
        "best_step": state.best_step,
        "seed": config.seed,
        "batch_size": config.data.batch_size,
        "hardware": f"{fabric.world_size} x {name}",
        "validation_recall@10": round(state.best_recall, 4),
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
    logger.info(
        "%s on %s: %s recordings%s",
        config.model.variant,
        about["corpus"],
        f"{about['recordings']:,}",
        hours,
    )
    for note in data.manifest.notes:
        logger.info("  %s", note)
    logger.info(
        "%s parameters trained, %s x %d, batch %d, %d steps, in %s",
        f"{model.trainable_parameters():,}",
        fabric.device.type,
        fabric.world_size,
        config.data.batch_size,
        config.runner.total_steps,
        folder,
    )
    if state.step:
        logger.info("resuming after step %d", state.step)


def _progress(shown: Mapping[str, float]) -> dict[str, str]:
    """Format the figures that the progress bar shows."""
    chosen = {}
    for name, value in shown.items():
        if name == "loss" or name.startswith("loss/"):
            chosen[name.removeprefix("loss/")] = f"{value:.3f}"
        elif name == "recall@10":
            chosen["R@10"] = f"{value:.1f}"
        elif name == "examples_per_second":
            chosen["ex/s"] = f"{value:.0f}"
    return chosen
