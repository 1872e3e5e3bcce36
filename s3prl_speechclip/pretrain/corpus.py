"""The data of a run: its corpus, training batches from any position on, validation splits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.fabric import Fabric

from ..data.batches import PairDataset, approximate_lengths, load_batches, read_ahead
from ..data.corpora import CORPORA, load_corpus
from ..data.manifest import Manifest
from ..data.sampling import BucketBatchSampler, check_batch_size
from ..encoders.image_features import load_image_table
from ..encoders.speech_features import cached_features
from ..errors import ConfigError
from ..model.embedding import RetrievalSet, retrieval_set
from ..model.speechclip import SpeechClip
from ..structures import PairBatch, SpeechBatch
from .config import PretrainConfig

DEVICE_SHARE = 0.25  # of a GPU's free memory, for the hidden states of the training split


def load_manifest(config: PretrainConfig) -> Manifest:
    """Load the corpus of a run, with the training splits of those in `data.also`.

    Raises:
        CorpusError: a corpus is missing or not in its official layout.
        ConfigError: CLIP is to be trained on captions that the corpus does not have.
    """
    data = config.data
    archive, skip_broken = data.archive or None, data.skip_broken
    manifest = load_corpus(data.corpus, data.root or None, archive, skip_broken)
    if config.runner.eval_step:
        manifest = manifest.require("validation")
    manifest = manifest.train_on(data.languages)
    for name in data.also:
        fetched = name in CORPORA and CORPORA[name].fetched
        other = load_corpus(name, None, archive if fetched else None, skip_broken)
        manifest = manifest.train_also(other)
    if config.model.clip.trainable and config.model.objective.text_weight > 0:
        train = manifest.split(manifest.train_split)
        missing = sum(not utterance.english for utterance in train)
        if missing:
            raise ConfigError(
                "training CLIP needs a written English caption for every recording, "
                f"{missing} of {len(train)} in {manifest.corpus} have none; set "
                "model.objective.text_weight=0"
            )
    return manifest


class TrainingData:
    """The recordings and images of a run, as one process of several reads them.

    The first process computes and caches what the frozen encoders make of them; the others then
    read it.

    Args:
        config: configuration of the run.
        manifest: its corpus.
        model: provides the frozen encoders.
        fabric: launched.

    Raises:
        ConfigError: the batch size does not fit the training split or the processes.
        AudioError, ImageError: a file cannot be read, without `data.skip_broken`.
    """

    def __init__(
        self, config: PretrainConfig, manifest: Manifest, model: SpeechClip, fabric: Fabric
    ) -> None:
        data, train = config.data, manifest.train_split
        validation = manifest.dev_splits if config.runner.eval_step else ()
        splits = (train, *validation)
        # Again below, where broken recordings are left out; here before encoders run.
        check_batch_size(data.batch_size, len(manifest.split(train)), fabric.world_size)
        with fabric.rank_zero_first():
            images, manifest = load_image_table(
                model.clip,
                manifest,
                splits,
                skip_broken=data.skip_broken,
                show_progress=fabric.is_global_zero,
            )
        with fabric.rank_zero_first():
            features = cached_features(
                model.speech_encoder,
                manifest,
                splits,
                when=data.cache_features,
                batch_size=data.eval_batch_size,
                workers=data.num_workers,
                skip_broken=data.skip_broken,
                show_progress=fabric.is_global_zero,
            )
        self.manifest = manifest
        self._config = config
        self._share = fabric.global_rank, fabric.world_size
        # Features are mapped into memory: to send them between processes costs more than reading.
        self._workers = 0 if features else data.num_workers
        self._reads_ahead = fabric.device.type == "cuda" and self._workers == 0
        self._utterances = manifest.split(train)
        self._recordings = PairDataset(
            manifest,
            self._utterances,
            max_samples=data.max_samples,
            seed=config.seed,
            on_broken="replace" if data.skip_broken else "raise",
        )
        states = features.get(train)
        if states and fabric.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(fabric.device)
            if states.size() < DEVICE_SHARE * free:
                states = states.to(fabric.device)
        self._train = self._recordings.reading(states, images.of(self._recordings.image_paths))
        self._lengths = approximate_lengths(manifest, self._utterances, data.max_samples)
        self.validation: dict[str, RetrievalSet] = {
            split: retrieval_set(
                manifest,
                split,
                images,
                batch_size=data.eval_batch_size,
                skip_broken=data.skip_broken,
                features=features.get(split),
            )
            for split in validation
        }
        """By split."""

    def batches(self, position: int) -> Iterator[PairBatch]:
        """Read this process's share of the training batches, without end.

        Args:
            position: number of batches to skip, those that a resumed run has taken.
        """
        batches = self._read(self._train, position, *self._share)
        return read_ahead(batches) if self._reads_ahead else batches

    def recordings(self) -> Iterator[SpeechBatch]:
        """Read the recordings of whole training batches, the same in all processes, without end."""
        for batch in self._read(self._recordings, 0, 0, 1):
            assert isinstance(batch.speech, SpeechBatch)
            yield batch.speech

    def utterance_ids(self, batch: PairBatch) -> list[str]:
        """Return the ids of a training batch's recordings."""
        return [self._utterances[index].utterance_id for index in batch.indices.tolist()]

    def about(self) -> dict[str, Any]:
        """Return what a model was trained on, for its checkpoint."""
        return {
            "corpus": self.manifest.corpus,
            "also": list(self._config.data.also),
            "recordings": len(self._utterances),
            "hours": round(sum(u.duration for u in self._utterances) / 3600, 2),
            "images": len(self._recordings.image_paths),
            "recordings_with_word_times": sum(bool(u.words) for u in self._utterances),
        }

    def _read(
        self, dataset: PairDataset, position: int, rank: int, world_size: int
    ) -> Iterator[PairBatch]:
        size, seed = self._config.data.batch_size, self._config.seed
        sampler = BucketBatchSampler(self._lengths, size, seed, rank, world_size)
        while True:
            epoch, start = divmod(position, len(sampler))
            batches = list(sampler.batches(epoch, start))
            yield from load_batches(dataset.at(epoch), batches, self._workers)
            position += len(batches)
