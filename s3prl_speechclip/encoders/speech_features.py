"""A frozen speech encoder's hidden states of a corpus, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data.batches import PairDataset, approximate_lengths, load_batches
from ..data.cache import cache_home, made_once
from ..data.feature_store import FORMAT, FeatureStore, frame_count, write_features
from ..data.manifest import Manifest, Utterance
from ..data.sampling import evaluation_batches
from ..errors import ConfigError, EncoderError
from ..hashing import state_hash
from ..pretrain.config import DataConfig
from .speech import SpeechEncoder

logger = logging.getLogger(__name__)

LIMIT = 6e9  # bytes of hidden states that are kept without being asked for
VALUE = 2  # bytes, float16


def cached_features(
    encoder: SpeechEncoder,
    manifest: Manifest,
    config: DataConfig,
    *,
    splits: Sequence[str] | None = None,
    show_progress: bool = True,
) -> dict[str, FeatureStore]:
    """Give the hidden states of splits from the cache, filling it.

    The cache knows the encoder by its weights and settings, recordings by path, size and time of
    change. Recordings are encoded whole and in full precision.

    Args:
        encoder: on the device that computes.
        manifest: the corpus.
        config: says whether, by `cache_features`.
        splits: of the corpus; None: those of training and validation.
        show_progress: a bar on standard error.

    Returns:
        By split; empty where recordings are to be encoded at every step.

    Raises:
        ConfigError: features are to be kept that would not be those of training.
        AudioError: a recording cannot be read.
        CorpusError: the cache cannot be written or is damaged.
        EncoderError: the hidden states do not fit float16.
    """
    splits = tuple(splits or (manifest.train_split, *manifest.dev_splits))
    if config.cache_features == "off" or not _is_wanted(encoder, manifest, splits, config):
        return {}
    try:
        return {
            split: FeatureStore(_made(encoder, manifest, split, config, show_progress))
            for split in splits
        }
    except EncoderError as error:
        if config.cache_features == "on":
            raise
        logger.warning("%s; recordings are encoded at every step", error)
        return {}


def _is_wanted(
    encoder: SpeechEncoder, manifest: Manifest, splits: Sequence[str], config: DataConfig
) -> bool:
    asked = config.cache_features == "on"
    for possible, key in (
        (not encoder.trainable, "model.speech_encoder.trainable=false"),
        (encoder.batch_invariant, "model.batch_invariant=true"),
    ):
        if asked and not possible:
            raise ConfigError(
                f"data.cache_features=on needs {key}: else hidden states change from step to step "
                "and batch to batch; set that, or data.cache_features=auto"
            )
        if not possible:
            return False
    if asked:
        return True
    utterances = [u for split in splits for u in manifest.split(split)]
    frames = sum(frame_count(int(n)) for n in approximate_lengths(manifest, utterances))
    size = frames * encoder.layers * encoder.width * VALUE
    free = shutil.disk_usage(_existing(cache_home())).free
    if size > LIMIT or 2 * size > free:
        logger.info(
            "recordings are encoded at every step: their hidden states would take %.1f GB, with "
            "%.0f GB free in '%s'; data.cache_features=on keeps them all the same",
            size / 1e9,
            free / 1e9,
            cache_home(),
        )
        return False
    return True


def _made(
    encoder: SpeechEncoder, manifest: Manifest, split: str, config: DataConfig, show: bool
) -> Path:
    utterances = manifest.split(split)
    folder = cache_home() / "speech_features" / _key(encoder, manifest, utterances)
    dataset = PairDataset(manifest, utterances, on_broken="drop" if config.skip_broken else "raise")
    batches = evaluation_batches(approximate_lengths(manifest, utterances), config.eval_batch_size)

    def make(partial: Path) -> None:
        with tqdm(
            total=len(utterances),
            desc=f"features of {split}",
            unit="recording",
            leave=False,
            disable=not show,
        ) as bar:
            states = _encode(encoder, dataset, batches, config.num_workers, bar)
            write_features(partial, len(utterances), states)

    return made_once(folder, make)


@torch.no_grad()
def _encode(
    encoder: SpeechEncoder,
    dataset: PairDataset,
    batches: Sequence[Sequence[int]],
    workers: int,
    bar: tqdm[Any],
) -> Iterator[tuple[int, Tensor]]:
    """Give each recording's place in its split and its hidden states, (layers, T, D) float16."""
    device = next(encoder.parameters()).device
    for pairs in load_batches(dataset, batches, workers):
        features = encoder(pairs.speech.to(device))
        stacked = torch.stack(features.hidden_states, 1).half().cpu()
        for index, states, frames in zip(
            pairs.indices.tolist(), stacked, features.lengths.tolist(), strict=True
        ):
            valid = states[:, :frames]
            if not valid.isfinite().all():
                raise EncoderError(
                    "hidden states of this speech encoder do not fit float16 and cannot be kept; "
                    "set data.cache_features=off"
                )
            yield index, valid
        bar.update(len(pairs.indices))


def _key(encoder: SpeechEncoder, manifest: Manifest, utterances: Sequence[Utterance]) -> str:
    settings = {
        "format": FORMAT,
        "architecture": encoder.architecture,
        "normalize_waveform": encoder.normalize_waveform,
        "weights": state_hash(encoder.model.state_dict()),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for utterance in utterances:
        path = manifest.path(utterance.audio)
        try:
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError:  # named when it is read
            digest.update(f"{path} missing\n".encode())
    return digest.hexdigest()[:32]


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
