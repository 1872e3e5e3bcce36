"""Retrieval by a trained model on a corpus' test splits: images, written captions, languages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from s3prl_speechclip.checkpoints.locate import Located
from s3prl_speechclip.data.feature_store import FeatureStore
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.encoders.image_features import load_image_table
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.model.embedding import (
    SpeechEmbeddings,
    embed_images,
    embed_speech,
    retrieval_set,
)
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.recall import (
    Ranks,
    Recall,
    chance_recall,
    recall_at_k,
    recall_of_ranks,
    retrieval_ranks,
    wilson_interval,
)
from s3prl_speechclip.results import STORED, result_record
from s3prl_speechclip.structures import TaskResult

from .languages import (
    crossing_recall,
    english_caption,
    language_of,
    recall_by_language,
    text_recall,
)

__all__ = [
    "Ranks",
    "Recall",
    "chance_recall",
    "evaluate_retrieval",
    "recall_at_k",
    "retrieval_ranks",
    "wilson_interval",
]

KS = (1, 5, 10)
TEXTS = 256  # captions embedded at once
PROTOCOL = {
    "recall": "percent of queries with a right answer among the first k",
    "speech_to_image": "right: the image with the recording's id",
    "image_to_speech": "right: any recording with the image's id",
    "candidates": "images once per id, the first of each; all recordings",
    "ties": "pessimistic",
    "interval_95": "Wilson score interval, queries taken as independent",
    "chance": "expectation of a random order, exact",
    "text": "zero-shot, English recordings and written captions: right is the recording's own "
    "caption, and any recording of a caption; repeated captions once",
    "across_languages": "the first recording of a picture in one language looks for any of its "
    "recordings in another, among those of all pictures that both describe",
    "precision": "fp32",
}


def evaluate_retrieval(
    model: SpeechClip,
    located: Located,
    manifest: Manifest,
    *,
    splits: Sequence[str] | None = None,
    batch_size: int = 32,
    skip_broken: bool = False,
    seed: int = 0,
    workers: int = 0,
    features: Mapping[str, FeatureStore] | None = None,
    show_progress: bool = True,
) -> TaskResult:
    """Measure recall at 1, 5 and 10 in both directions, for each embedding and their sum.

    Between recordings and images; between English recordings and written captions where there are
    any; between recordings in different languages where there are several.

    Args:
        model: in evaluation mode.
        located: where the model came from.
        manifest: the corpus.
        splits: of the corpus; None: its test splits.
        batch_size: recordings encoded at once.
        skip_broken: leave out what cannot be read, and say so.
        seed: noted in the result; nothing here is random.
        workers: processes that read.
        features: hidden states by split, to be read in place of recordings.
        show_progress: a bar on standard error.

    Raises:
        CorpusError, AudioError, ImageError: something of the corpus cannot be read.
        ResultError: an embedding is not a number.
    """
    started = time.perf_counter()
    splits = tuple(splits or manifest.test_splits)
    images, manifest = load_image_table(
        model.clip,
        manifest,
        splits,
        skip_broken=skip_broken,
        show_progress=show_progress,
    )
    metrics: dict[str, Any] = {}
    notes = list(manifest.notes)
    for split in splits:
        data = retrieval_set(
            manifest,
            split,
            images,
            batch_size=batch_size,
            skip_broken=skip_broken,
            features=(features or {}).get(split),
        )
        speech = embed_speech(model, data, workers=workers)
        utterances = [manifest.split(split)[i] for i in speech.indices.tolist()]
        if not utterances:
            raise ResultError(f"no recording of split '{split}' can be read")
        heard = torch.isin(data.image_ids, speech.pair_ids)
        if data.dataset.broken:
            notes.append(
                f"{split}: left out {len(data.dataset.broken)} recordings that cannot be read and "
                f"{int((~heard).sum())} images that no other recording describes"
            )
        named = embeddings(speech)
        metrics[split] = {
            **split_metrics(
                speech, utterances, embed_images(model, data)[heard], data.image_ids[heard]
            ),
            **text_metrics(model, named, utterances),
        }
        across = crossing_recall(named, speech, utterances)
        if across:
            metrics[split]["across_languages"] = across
    return result_record(
        started=started,
        task="retrieval",
        system=model.config.variant,
        size=model.config.size,
        corpus=manifest.corpus,
        checkpoint=located.source,
        checkpoint_hash=located.digest(),
        metrics=metrics,
        protocol={
            **PROTOCOL,
            **({"hidden_states": STORED} if features else {}),
            "image_resize": model.clip.image_resize,
            "notes": notes,
        },
        seed=seed,
        mini=manifest.mini or model.config.size == "mini",
    )


def embeddings(speech: SpeechEmbeddings) -> dict[str, Tensor]:
    """Give a split's embeddings by name, and where there are several their sum, unit vectors."""
    named = dict(speech.by_name)
    if len(named) > 1:
        named["sum"] = F.normalize(torch.stack(list(named.values())).sum(0), dim=-1)
    return named


def text_metrics(
    model: SpeechClip, named: Mapping[str, Tensor], utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Give a split's retrieval between English recordings and written captions.

    Args:
        model: whose CLIP reads the captions.
        named: embeddings of N recordings.
        utterances: the recordings, N.

    Returns:
        `{"text": ..}`, or nothing where no English recording has a caption.
    """
    captions = {
        place: english_caption(utterance)
        for place, utterance in enumerate(utterances)
        if language_of(utterance) == "en" and english_caption(utterance)
    }
    if not captions:
        return {}
    distinct = sorted(set(captions.values()))
    texts = torch.cat(
        [
            model.encode_text(distinct[start : start + TEXTS]).float().cpu()
            for start in range(0, len(distinct), TEXTS)
        ]
    )
    rows = torch.tensor(list(captions))
    spoken = {name: vectors[rows] for name, vectors in named.items()}
    return {"text": text_recall(spoken, list(captions.values()), texts, distinct)}


def split_metrics(
    speech: SpeechEmbeddings, utterances: Sequence[Utterance], images: Tensor, image_ids: Tensor
) -> dict[str, Any]:
    """Give a split's recall by embedding, beside chance, and by kind of recording.

    Args:
        speech: N embedded recordings.
        utterances: the same recordings, N.
        images: (M, E) unit vectors.
        image_ids: (M,).
    """
    named = embeddings(speech)
    several = len({language_of(utterance) for utterance in utterances}) > 1
    chance = chance_recall(speech.pair_ids, image_ids, KS)
    found: dict[str, Any] = {
        "recordings": len(utterances),
        "images": len(set(image_ids.tolist())),
        "chance": _keyed(chance),
    }
    kinds = {
        "human": torch.tensor([not u.synthetic for u in utterances]),
        "synthetic": torch.tensor([u.synthetic for u in utterances]),
    }
    for name, vectors in named.items():
        ranks = retrieval_ranks(vectors, images, speech.pair_ids, image_ids)
        found[name] = _keyed(recall_of_ranks(ranks, KS))
        found[name]["interval_95"] = {
            direction: {f"recall@{k}": _interval(places, k) for k in KS}
            for direction, places in (
                ("speech_to_image", ranks.speech_to_image),
                ("image_to_speech", ranks.image_to_speech),
            )
        }
        found[name]["speech_to_image_by_kind"] = {
            kind: {f"recall@{k}": _share(ranks.speech_to_image[rows], k) for k in KS}
            for kind, rows in kinds.items()
            if bool(rows.any())
        }
        if several:
            found[name]["speech_to_image_by_language"] = recall_by_language(ranks, utterances)
    return found


def _keyed(recall: Recall) -> dict[str, Any]:
    return {d: {f"recall@{k}": round(v, 4) for k, v in at.items()} for d, at in recall.items()}


def _share(ranks: Tensor, k: int) -> float:
    return round(100.0 * int((ranks <= k).sum()) / len(ranks), 4)


def _interval(ranks: Tensor, k: int) -> list[float]:
    return [round(end, 4) for end in wilson_interval(int((ranks <= k).sum()), len(ranks))]
