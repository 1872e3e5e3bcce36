"""A frozen speech encoder's hidden states of a corpus, computed once and kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from ..data.batches import PairDataset, approximate_lengths, load_batches
from ..data.feature_store import (
    FeatureFolder,
    FeatureStore,
    KnownRecordings,
    features_home,
    frame_count,
    free_space,
)
from ..data.manifest import Manifest
from ..data.sampling import evaluation_batches
from ..errors import ConfigError, EncoderError
from ..hashing import state_hash
from ..structures import SpeechBatch
from .speech import SpeechEncoder

logger = logging.getLogger(__name__)

LIMIT = 6e9  # bytes of hidden states that are kept by default
VALUE = 2  # bytes, float16

When = Literal["auto", "on", "off"]


def cached_features(
    encoder: SpeechEncoder,
    manifest: Manifest,
    splits: Sequence[str],
    *,
    when: When = "auto",
    batch_size: int = 64,
    workers: int = 0,
    skip_broken: bool = False,
    show_progress: bool = True,
) -> dict[str, FeatureStore]:
    """Return the hidden states of splits from the cache, which is filled where it lacks them.

    The store identifies the encoder by its weights and settings, and recordings by their samples,
    which are read again where a file's size or modification time changed. Recordings are encoded
    whole and in full precision.

    Args:
        encoder: encoder on the device that computes.
        manifest: corpus.
        splits: names of the corpus' splits.
        when: `auto`: where the encoder is frozen and batch-invariant, and the hidden states take
            6 GB at most; `on`: whatever their size; `off`: never.
        batch_size: recordings encoded at once.
        workers: number of reading processes; 0 reads in this one.
        skip_broken: leave out recordings that cannot be read.
        show_progress: a bar on standard error.

    Returns:
        Hidden states by split; empty where recordings are to be encoded at every step.

    Raises:
        ConfigError: `on`, and the hidden states would not be those of training.
        AudioError: a recording cannot be read.
        CorpusError: the cache cannot be written or is damaged.
        EncoderError: the hidden states do not fit float16.
    """
    if when == "off" or not _is_wanted(encoder, manifest, splits, when):
        return {}

    settings = {
        "encoder": "speech encoder",
        "architecture": encoder.architecture,
        "normalize_waveform": encoder.normalize_waveform,
        "weights": state_hash(encoder.model.state_dict()),
        "kind": "frames",
    }
    folder = FeatureFolder(settings, "float16")
    known = KnownRecordings("16 kHz mono, at least a frame")

    def open_store(split: str) -> FeatureStore:
        utterances = manifest.split(split)
        dataset = PairDataset(manifest, utterances, on_broken="drop" if skip_broken else "raise")
        paths = [manifest.path(utterance.audio) for utterance in utterances]

        def keys(indices: Iterable[int]) -> list[str | None]:
            found = (known.find(paths[index]) for index in indices)
            return [None if recording is None else recording.key for recording in found]

        # Whole batches, so that what another run left unfinished rounds no value otherwise.
        batches = [
            batch
            for batch in evaluation_batches(approximate_lengths(manifest, utterances), batch_size)
            if not all(key in folder for key in keys(batch))
        ]
        bar = tqdm(
            total=sum(map(len, batches)),
            desc=f"features of {split}",
            unit="recording",
            leave=False,
            disable=not show_progress or not batches,
        )
        with bar, folder.writer() as writer:
            for pairs in load_batches(dataset, batches, workers):
                speech, indices = pairs.speech, pairs.indices.tolist()
                assert isinstance(speech, SpeechBatch)
                for index, row, length in zip(
                    indices, speech.waveforms.numpy(), speech.lengths.tolist(), strict=True
                ):
                    known.add(paths[index], row[:length])
                found = [key for key in keys(indices) if key is not None]
                missing = {key for key in found if key not in folder}
                if missing:  # a corpus that was moved has its features
                    for key, states in zip(found, _encode(encoder, speech), strict=True):
                        if key in missing:
                            missing.remove(key)
                            writer.add(key, states)
                bar.update(len(indices))
        known.save()
        return FeatureStore(folder, keys(range(len(utterances))))

    try:
        return {split: open_store(split) for split in splits}
    except EncoderError as error:
        if when == "on":
            raise
        logger.warning("%s; recordings are encoded at every step", error)
        return {}


def _is_wanted(
    encoder: SpeechEncoder, manifest: Manifest, splits: Sequence[str], when: When
) -> bool:
    for possible, key in (
        (not encoder.trainable, "model.speech_encoder.trainable=false"),
        (encoder.batch_invariant, "model.batch_invariant=true"),
    ):
        if not possible and when == "on":
            raise ConfigError(
                f"data.cache_features=on needs {key}: otherwise hidden states change from step to "
                "step or batch to batch; set that, or data.cache_features=auto"
            )
        if not possible:
            return False
    if when == "on":
        return True
    utterances = [u for split in splits for u in manifest.split(split)]
    frames = sum(frame_count(int(n)) for n in approximate_lengths(manifest, utterances))
    size = frames * encoder.layers * encoder.width * VALUE
    free = free_space()
    if size > LIMIT or 2 * size > free:
        logger.info(
            "recordings are encoded at every step, which costs the whole speech encoder each time: "
            "their hidden states would take %.1f GB, with %.0f GB free in '%s', and are kept up to "
            "half of that; free some space, or keep them all the same: data.cache_features=on",
            size / 1e9,
            free / 1e9,
            features_home(),
        )
        return False
    return True


@torch.no_grad()
def _encode(encoder: SpeechEncoder, speech: SpeechBatch) -> Iterator[Tensor]:
    """Yield the hidden states of each recording of a batch, (layers, T, D) float16."""
    features = encoder(speech.to(next(encoder.parameters()).device))
    stacked = torch.stack(features.hidden_states, 1).half().cpu()
    for states, frames in zip(stacked, features.lengths.tolist(), strict=True):
        valid = states[:, :frames]
        if not valid.isfinite().all():
            raise EncoderError(
                "hidden states of this speech encoder do not fit float16 and cannot be kept; "
                "set data.cache_features=off"
            )
        yield valid
