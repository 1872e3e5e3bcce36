"""Embeddings of a split for retrieval: its recordings, its images, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.batches import OnBroken, PairDataset, approximate_lengths, load_batches
from ..data.feature_store import FeatureStore
from ..data.manifest import Manifest
from ..data.sampling import evaluation_batches, in_split_order
from ..encoders.image_features import ImageTable
from .speechclip import SpeechClip


@dataclass(frozen=True)
class RetrievalSet:
    """Recordings and images of a split, ready to be embedded."""

    dataset: PairDataset
    batches: Sequence[Sequence[int]]
    """Of recordings, the longest first."""
    image_features: Tensor
    """(M, F), of the frozen image trunk."""
    image_ids: Tensor
    """(M,) int64; images that share one are one answer."""


@dataclass(frozen=True)
class SpeechEmbeddings:
    """The embedded recordings of a split, in its order."""

    by_name: Mapping[str, Tensor]
    """(N, E) unit vectors, float32 on the CPU: parallel, cascaded, as far as the model has them."""
    pair_ids: Tensor
    """(N,) int64."""
    indices: Tensor
    """(N,) int64, places in the split; fewer than it has where broken recordings were dropped."""


def retrieval_set(
    manifest: Manifest,
    split: str,
    images: ImageTable,
    *,
    batch_size: int,
    skip_broken: bool = False,
    features: FeatureStore | None = None,
) -> RetrievalSet:
    """Prepare a split for retrieval.

    Args:
        manifest: the corpus.
        split: name of the split.
        images: image features of the corpus.
        batch_size: recordings encoded at once.
        skip_broken: whether recordings that cannot be read are left out.
        features: hidden states, read instead of recordings.

    Raises:
        CorpusError: there is no such split.
    """
    utterances = manifest.split(split)
    on_broken: OnBroken = "drop" if skip_broken else "raise"
    dataset = PairDataset(manifest, utterances, on_broken=on_broken)
    if features is not None:
        dataset = dataset.reading(features)
    ids = {u.image: u.pair_id for u in utterances}
    return RetrievalSet(
        dataset=dataset,
        batches=evaluation_batches(approximate_lengths(manifest, utterances), batch_size),
        image_features=images.of(dataset.image_paths),
        image_ids=torch.tensor([ids[path] for path in dataset.image_paths]),
    )


@torch.no_grad()
def embed_speech(
    model: SpeechClip,
    data: RetrievalSet,
    batches: Sequence[Sequence[int]] | None = None,
    *,
    workers: int = 0,
) -> SpeechEmbeddings:
    """Embed the recordings of a split.

    Args:
        model: the model, in evaluation mode.
        data: the split.
        batches: this process' batches of it; None: all.
        workers: processes that read.
    """
    device = model.clip.vocabulary.device
    kept: dict[str, list[Tensor]] = {}
    indices, pair_ids = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    for pairs in load_batches(data.dataset, data.batches if batches is None else batches, workers):
        output = model(pairs.speech.to(device), frames=False)
        for name, embedding in output.embeddings.items():
            kept.setdefault(name, []).append(embedding.float().cpu())
        indices.append(pairs.indices)
        pair_ids.append(pairs.pair_ids)
    by_name = {name: torch.cat(rows) for name, rows in kept.items()}
    return in_order(by_name, torch.cat(pair_ids), torch.cat(indices))


def in_order(by_name: Mapping[str, Tensor], pair_ids: Tensor, indices: Tensor) -> SpeechEmbeddings:
    """Sort embedded recordings into the order of their split."""
    ordered = {name: in_split_order(rows, indices)[0] for name, rows in by_name.items()}
    pair_ids, places = in_split_order(pair_ids, indices)
    return SpeechEmbeddings(ordered, pair_ids, places)


@torch.no_grad()
def embed_images(model: SpeechClip, data: RetrievalSet) -> Tensor:
    """Embed a split's images; (M, E) unit vectors, float32 on the CPU."""
    features = data.image_features.to(model.clip.vocabulary.device)
    return F.normalize(model.encode_images(features).float().cpu(), dim=-1)
