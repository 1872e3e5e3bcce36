"""What a run reads: training batches from any place on, and the validation splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..data.batches import PairDataset, approximate_lengths, load_batches
from ..data.feature_store import FeatureStore
from ..data.manifest import Manifest
from ..data.sampling import BucketBatchSampler
from ..encoders.image_features import ImageTable
from ..model.embedding import RetrievalSet, retrieval_set
from ..structures import PairBatch, SpeechBatch
from .config import PretrainConfig


class RunData:
    """The recordings and images of a run.

    Args:
        config: of the run.
        manifest: the corpus.
        images: what the frozen image trunk made of the corpus' images.
        features: of the splits' recordings, by split; empty: recordings themselves are read.
        rank: this process.
        world_size: processes.

    Raises:
        ConfigError: a batch size that the training split or the processes do not allow.
    """

    def __init__(
        self,
        config: PretrainConfig,
        manifest: Manifest,
        images: ImageTable,
        features: Mapping[str, FeatureStore],
        rank: int,
        world_size: int,
    ) -> None:
        data = config.data
        self.manifest = manifest
        self._also = data.also
        self._batch_size = data.batch_size
        self._seed = config.seed
        # Features are mapped into memory: to send them between processes costs more than reading.
        self._workers = 0 if features else data.num_workers
        train = manifest.train_split
        utterances = manifest.split(train)
        self._recordings = PairDataset(
            manifest,
            utterances,
            max_samples=data.max_samples,
            seed=config.seed,
            on_broken="replace" if data.skip_broken else "raise",
        )
        self.images = images.of(self._recordings.image_paths)
        """(M, F) of the training split's images."""
        self._train = self._recordings.reading(features.get(train), self.images)
        self._lengths = approximate_lengths(manifest, utterances, data.max_samples)
        self._sampler = self._sampler_of(rank, world_size)
        self.validation: dict[str, RetrievalSet] = {}
        """By split."""
        for name in manifest.dev_splits:
            task = retrieval_set(
                manifest,
                name,
                images,
                batch_size=data.eval_batch_size,
                skip_broken=data.skip_broken,
            )
            if features:
                task = replace(task, dataset=task.dataset.reading(features[name]))
            self.validation[name] = task

    def batches(self, position: int) -> Iterator[PairBatch]:
        """Read this process's share of the training batches, for ever.

        Args:
            position: batches to pass over, as those were that a resumed run has seen.
        """
        return self._read(self._train, self._sampler, position, self._workers)

    def recordings(self) -> Iterator[SpeechBatch]:
        """Read whole training batches' recordings, the same in every process, for ever."""
        for pairs in self._read(self._recordings, self._sampler_of(0, 1), 0, self._workers):
            assert isinstance(pairs.speech, SpeechBatch)
            yield pairs.speech

    def about(self) -> dict[str, Any]:
        """Say what a model was trained on, for its checkpoint."""
        train = self.manifest.split(self.manifest.train_split)
        return {
            "corpus": self.manifest.corpus,
            "also": list(self._also),
            "recordings": len(train),
            "hours": round(sum(u.duration for u in train) / 3600, 2),
            "images": len(self.images),
        }

    def _sampler_of(self, rank: int, world_size: int) -> BucketBatchSampler:
        return BucketBatchSampler(self._lengths, self._batch_size, self._seed, rank, world_size)

    def _read(
        self, dataset: PairDataset, sampler: BucketBatchSampler, position: int, workers: int
    ) -> Iterator[PairBatch]:
        while True:
            epoch, start = divmod(position, len(sampler))
            batches = list(sampler.batches(epoch, start))
            yield from load_batches(dataset.at(epoch), batches, workers)
            position += len(batches)
