"""One pretraining run, from a configuration to an experiment folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric

from .. import checkpoints
from ..checkpoints.locate import RUN_CONFIG
from ..checkpoints.native import StoredModel
from ..config import plain
from ..data.corpora import CORPORA, load_corpus
from ..data.manifest import Manifest
from ..encoders.image_features import load_image_table
from ..encoders.shipped import SHIPPED
from ..encoders.speech_features import cached_features
from ..encoders.vocabulary import find_vocabulary
from ..errors import CheckpointError, ConfigError
from ..model.speechclip import SpeechClip
from ..runtime.devices import build_fabric
from .config import PretrainConfig, read_config, write_config
from .reading import RunData
from .state import STATE_FILE, RunCheckpoints, TrainerState, read_run_checkpoint
from .trainer import Outcome, Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a run starts from."""

    model: StoredModel | None = None
    """Weights to begin with, or None: new ones."""
    state: TrainerState | None = None
    """Optimiser, step and random state, where the past run left them."""
    config: PretrainConfig | None = None
    """Of the past run."""
    folder: Path | None = None
    """The past run's experiment folder, if it is one."""


def find_start(past: Path) -> Start:
    """Read what `-e` names: an experiment or checkpoint folder, or an official checkpoint.

    Raises:
        CheckpointError: there is no such thing.
    """
    if past.is_dir() and (past / RUN_CONFIG).is_file():
        stored, state = RunCheckpoints(past).load_last()
        return Start(stored, state, read_config(past / RUN_CONFIG), past)
    if past.is_dir() and (past / STATE_FILE).is_file():
        stored, state = read_run_checkpoint(past)
        config = past.resolve().parent / RUN_CONFIG
        return Start(stored, state, read_config(config) if config.is_file() else None)
    return Start(model=checkpoints.read(past))


def pretrain(
    config: PretrainConfig,
    folder: Path,
    *,
    start: Start | None = None,
    auto_resume: bool = False,
    device: str = "auto",
) -> Outcome:
    """Train a model and write everything about it to a folder.

    Args:
        config: of the run.
        folder: of the experiment; made where it is missing.
        start: where to start from.
        auto_resume: go on from the folder's last checkpoint, if it has one.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    start = start or Start()
    checkpoints = RunCheckpoints(folder)
    if auto_resume and checkpoints.has_last():
        stored, state = checkpoints.load_last()
        start = Start(stored, state)
    elif checkpoints.has_last() and (start.folder is None or start.folder != folder):
        raise ConfigError(
            f"'{folder}' already holds a run: go on with -a, name another with -n or -p, or "
            "remove it"
        )
    fabric = build_fabric(
        device,
        config.runner.precision,
        find_unused_parameters=config.model.speech_encoder.trainable or config.model.clip.trainable,
    )
    fabric.launch()
    fabric.seed_everything(config.seed, verbose=False)
    with fabric.rank_zero_first():
        manifest = _load_corpus(config, fabric.is_global_zero)
    model = _model(config, manifest, start.model)
    fabric.to_device(model)
    with fabric.rank_zero_first():
        images, manifest = load_image_table(
            model.clip,
            manifest,
            (manifest.train_split, *manifest.dev_splits),
            skip_broken=config.data.skip_broken,
            show_progress=fabric.is_global_zero,
        )
    with fabric.rank_zero_first():
        features = cached_features(
            model.speech_encoder, manifest, config.data, show_progress=fabric.is_global_zero
        )
    data = RunData(config, manifest, images, features, fabric.global_rank, fabric.world_size)
    if fabric.is_global_zero:
        _prepare(folder, config)
        _say(config, model, manifest, folder, fabric, start)
    fabric.barrier()
    # Each process draws its own dropout; the model above is the same in all.
    fabric.seed_everything(config.seed + fabric.global_rank, verbose=False)
    trainer = Trainer(fabric, config, model, data, folder, start.state)
    if start.model is None:
        trainer.learn_spectrum()
    return trainer.run()


def describe(config: PretrainConfig) -> str:
    """Say what a run would train: configuration and parameter counts, nothing fetched."""
    import yaml

    clip = config.model.clip
    name = clip.vocabulary
    if name == "corpus":  # which is not read here
        name = SHIPPED if clip.pretrained == SHIPPED else "flickr8k"
    vocabulary = find_vocabulary(name)
    with torch.device("meta"):  # counted, never filled
        model = SpeechClip(config.model, vocabulary, weights=False)
    parts = [("speech encoder", model.speech_encoder), ("CLIP", model.clip)]
    parts += [("layer mix", model.layer_mix), ("branch", model.branch), ("loss", model.contrast)]
    lines = [yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True).rstrip(), ""]
    lines.append(f"{'parameters':<16}{'all':>14}{'trained':>14}")
    for name, part in parts:
        every = sum(p.numel() for p in part.parameters())
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        lines.append(f"{name:<16}{every:>14,}{trained:>14,}")
    every = sum(p.numel() for p in model.parameters())
    lines.append(f"{'total':<16}{every:>14,}{model.trainable_parameters():>14,}")
    return "\n".join(lines) + "\n"


def _load_corpus(config: PretrainConfig, warn: bool) -> Manifest:
    data = config.data
    archive = Path(data.archive) if data.archive else None
    manifest = load_corpus(
        data.corpus,
        root=Path(data.root) if data.root else None,
        archive=archive,
        skip_broken=data.skip_broken,
    ).train_on(data.languages)
    for name in data.also:
        fetched = archive if name in CORPORA and CORPORA[name].fetched else None
        manifest = manifest.train_also(
            load_corpus(name, archive=fetched, skip_broken=data.skip_broken)
        )
    model = config.model
    if model.clip.trainable and model.objective.text_weight > 0:
        train = manifest.split(manifest.train_split)
        bare = sum(not u.english for u in train)
        if bare:
            raise ConfigError(
                f"training CLIP needs a written English caption for every recording, {bare} of "
                f"{len(train)} in {manifest.corpus} have none; set model.objective.text_weight=0"
            )
    return manifest


def _model(config: PretrainConfig, manifest: Manifest, stored: StoredModel | None) -> SpeechClip:
    if stored is not None:
        if stored.config.variant != config.model.variant:
            raise CheckpointError(
                f"the checkpoint is a {stored.config.variant}, not a {config.model.variant}"
            )
        return SpeechClip.from_stored(
            StoredModel(config.model, stored.state, stored.encoders, stored.about)
        )
    captions = [u.caption or u.text for u in manifest.split(manifest.train_split)]
    vocabulary = find_vocabulary(config.model.clip.vocabulary, captions)
    return SpeechClip(config.model, vocabulary)


def _prepare(folder: Path, config: PretrainConfig) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / RUN_CONFIG, config)
    except OSError as error:
        raise CheckpointError(f"cannot write to '{folder}': {error.strerror}") from error


def _say(
    config: PretrainConfig,
    model: SpeechClip,
    manifest: Manifest,
    folder: Path,
    fabric: Fabric,
    start: Start,
) -> None:
    train = manifest.split(manifest.train_split)
    hours = sum(u.duration for u in train) / 3600
    spoken = f"{len(train):,} recordings" + (f", {hours:.1f} h" if hours else "")
    logger.info("%s on %s: %s", config.model.variant, manifest.corpus, spoken)
    for note in manifest.notes:
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
    if start.state is not None:
        logger.info("going on from step %d", start.state.step)
