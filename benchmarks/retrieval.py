"""Recall between recordings and images, written captions, and other languages."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from itertools import permutations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.modules.recall import (
    Ranks,
    Recall,
    chance_recall,
    recall_at_k,
    recall_of_ranks,
    retrieval_ranks,
    wilson_interval,
)
from s3prl_speechclip.structures import TaskResult

from .shared.benchmark import (
    Benchmark,
    Measured,
    Trial,
    add_corpus_options,
    add_model_options,
    rounded,
    titled_table,
)
from .shared.board import CHANCE, KS, Section, recall_columns, recall_figures
from .shared.decoding import embed_texts, english_caption, language_of

if TYPE_CHECKING:
    from s3prl_speechclip.data.manifest import Utterance
    from s3prl_speechclip.model.embedding import SpeechEmbeddings
    from s3prl_speechclip.model.speechclip import SpeechClip

__all__ = ["BENCHMARK", "recall_at_k"]

FEWEST = 10  # images that two languages must share to be compared
EMBEDDINGS = ("parallel", "cascaded", "sum")
DIRECTIONS = {"S2I": "speech_to_image", "I2S": "image_to_speech", "mean": "mean"}
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


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)


def run(args: Namespace) -> Measured:
    """Measure recall at 1, 5 and 10 in both directions, for each embedding and their sum.

    Between recordings and images; between English recordings and written captions where there are
    any; between recordings in different languages where there are several.

    Raises:
        CorpusError, AudioError, ImageError: something of the corpus cannot be read.
        ResultError: an embedding is not a number.
    """
    from s3prl_speechclip.encoders.image_features import load_image_table
    from s3prl_speechclip.model.embedding import embed_images, embed_speech, retrieval_set

    trial = Trial(args)
    model, splits, stored = trial.model, trial.splits, trial.stored
    images, trial.manifest = load_image_table(
        model.clip, trial.manifest, splits, skip_broken=args.skip_broken
    )
    metrics: dict[str, Any] = {}
    for split in splits:
        data = retrieval_set(
            trial.manifest,
            split,
            images,
            batch_size=args.batch_size,
            skip_broken=args.skip_broken,
            features=stored.get(split),
        )
        speech = embed_speech(model, data, workers=args.num_workers)
        utterances = [trial.manifest.split(split)[i] for i in speech.indices.tolist()]
        if not utterances:
            raise ResultError(f"no recording of split '{split}' can be read")
        described = torch.isin(data.image_ids, speech.pair_ids)
        if data.dataset.broken:
            trial.notes.append(
                f"{split}: left out {len(data.dataset.broken)} recordings that cannot be read and "
                f"{int((~described).sum())} images that no other recording describes"
            )
        named = named_embeddings(speech)
        pictures, image_ids = embed_images(model, data)[described], data.image_ids[described]
        metrics[split] = image_recall(named, speech.pair_ids, utterances, pictures, image_ids)
        if text := caption_recall(model, named, utterances):
            metrics[split]["text"] = text
        if across := crossing_recall(named, speech.pair_ids, utterances):
            metrics[split]["across_languages"] = across
    about = {"image_resize": model.clip.image_resize}
    return Measured(trial.record("retrieval", metrics, {**PROTOCOL, **about}))


def named_embeddings(speech: SpeechEmbeddings) -> dict[str, Tensor]:
    """Return a split's embeddings by name, and where there are several their sum, unit vectors."""
    named = dict(speech.by_name)
    if len(named) > 1:
        named["sum"] = F.normalize(torch.stack(list(named.values())).sum(0), dim=-1)
    return named


def image_recall(
    named: Mapping[str, Tensor],
    pair_ids: Tensor,
    utterances: Sequence[Utterance],
    images: Tensor,
    image_ids: Tensor,
) -> dict[str, Any]:
    """Measure recall between recordings and images, by kind of recording and by language.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        pair_ids: what each recording describes, (N,).
        utterances: the recordings, N.
        images: (M, E) unit vectors.
        image_ids: what each image is, (M,).
    """
    synthetic = torch.tensor([u.synthetic for u in utterances])
    kinds = {"human": ~synthetic, "synthetic": synthetic}
    found: dict[str, Any] = {
        "recordings": len(utterances),
        "images": len(set(image_ids.tolist())),
        CHANCE: _keyed(chance_recall(pair_ids, image_ids, KS)),
    }
    for name, vectors in named.items():
        ranks = retrieval_ranks(vectors, images, pair_ids, image_ids)
        to_image = ranks.speech_to_image
        found[name] = {
            **_keyed(recall_of_ranks(ranks, KS)),
            "interval_95": {
                direction: {f"recall@{k}": _interval(places, k) for k in KS}
                for direction, places in vars(ranks).items()
            },
            "speech_to_image_by_kind": {
                kind: _shares(to_image[rows]) for kind, rows in kinds.items() if bool(rows.any())
            },
        }
        if len(rows_by_language(utterances)) > 1:
            found[name]["speech_to_image_by_language"] = recall_by_language(ranks, utterances)
    return found


def recall_by_language(ranks: Ranks, utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Return speech-to-image recall of each language's recordings, among all images."""
    return {
        language: {"recordings": len(rows), **_shares(ranks.speech_to_image[rows])}
        for language, rows in rows_by_language(utterances).items()
    }


def rows_by_language(utterances: Sequence[Utterance]) -> dict[str, Tensor]:
    """Return the rows of each language's recordings, int64, languages in order of name."""
    languages = [language_of(utterance) for utterance in utterances]
    return {
        language: torch.tensor([row for row, other in enumerate(languages) if other == language])
        for language in sorted(set(languages))
    }


def caption_recall(
    model: SpeechClip, named: Mapping[str, Tensor], utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Measure recall between English recordings and captions; empty without captions."""
    captions = {
        row: english_caption(utterance)
        for row, utterance in enumerate(utterances)
        if language_of(utterance) == "en" and english_caption(utterance)
    }
    if not captions:
        return {}
    distinct = sorted(set(captions.values()))
    spoken = {name: vectors[list(captions)] for name, vectors in named.items()}
    return text_recall(spoken, list(captions.values()), embed_texts(model, distinct), distinct)


def text_recall(
    named: Mapping[str, Tensor], captions: Sequence[str], texts: Tensor, distinct: Sequence[str]
) -> dict[str, Any]:
    """Measure retrieval between recordings and written captions, which training never paired.

    A recording's right answer is its own caption, a caption's any recording of it.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        captions: captions of the recordings, N.
        texts, distinct: the distinct captions, M, and their embeddings, (M, E) unit vectors.
    """
    place = {caption: number for number, caption in enumerate(distinct)}
    ids = [place[caption] for caption in captions], list(range(len(distinct)))
    recalls = {
        name: recall_of_ranks(retrieval_ranks(vectors, texts, *ids), KS)
        for name, vectors in named.items()
    }
    recalls[CHANCE] = chance_recall(*ids, KS)
    names = {"speech_to_image": "speech_to_text", "image_to_speech": "text_to_speech"}
    return {"recordings": len(captions), "captions": len(distinct)} | {
        name: {names.get(direction, direction): at for direction, at in _keyed(recall).items()}
        for name, recall in recalls.items()
    }


def crossing_recall(
    named: Mapping[str, Tensor], pair_ids: Tensor, utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Measure retrieval between recordings of the same image in two languages.

    The queries are the first recordings, in one language, of each image described in both; the
    candidates are all recordings of these images in the other; right is any of the query's image.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        pair_ids: image of each recording, (N,).
        utterances: the recordings, N.

    Returns:
        `pictures`: how many each pair of languages shares, `FEWEST` at least; by embedding, and for
        chance: `mean` over the pairs, and each pair's `recall@10`. Empty where there is no pair.
    """
    pictures: dict[str, int] = {}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for (source, source_rows), (target, target_rows) in permutations(
        rows_by_language(utterances).items(), 2
    ):
        both = set(pair_ids[source_rows].tolist()) & set(pair_ids[target_rows].tolist())
        if len(both) < FEWEST:
            continue
        pair = f"{source}>{target}"
        pictures[pair] = len(both)
        queries, candidates = (
            rows[torch.isin(pair_ids[rows], torch.tensor(sorted(both)))]
            for rows in (source_rows, target_rows)
        )
        ids = pair_ids[candidates], pair_ids[queries]
        recalls = {
            name: recall_of_ranks(retrieval_ranks(vectors[candidates], vectors[queries], *ids), KS)
            for name, vectors in named.items()
        }
        for name, recall in {**recalls, CHANCE: chance_recall(*ids, KS)}.items():
            found.setdefault(name, {})[pair] = recall["image_to_speech"]
    if not pictures:
        return {}
    return {"pictures": pictures} | {
        name: {
            "mean": {f"recall@{k}": round(fmean(at[k] for at in pairs.values()), 4) for k in KS},
            "recall@10": {pair: round(at[10], 4) for pair, at in pairs.items()},
        }
        for name, pairs in found.items()
    }


def table(result: TaskResult) -> str:
    """Lay a result out, chance in a row of its own per split."""
    shown = {"S>I": "speech_to_image", "I>S": "image_to_speech"}
    head = ("split", "embedding", *(f"{arrow} R@{k}" for arrow in shown for k in KS))
    rows = [
        (split, name, *(f"{found[name][d][f'recall@{k}']:.1f}" for d in shown.values() for k in KS))
        for split, found in result.metrics.items()
        for name in (*EMBEDDINGS, CHANCE)
        if name in found
    ]
    counts = ", ".join(
        f"{split}: {found['recordings']:,} recordings, {found['images']:,} images"
        for split, found in result.metrics.items()
    )
    return titled_table(result, "recall in percent", head, rows, counts)


def _keyed(recall: Recall) -> dict[str, Any]:
    return {d: rounded({f"recall@{k}": v for k, v in at.items()}) for d, at in recall.items()}


def _shares(ranks: Tensor) -> dict[str, float]:
    return rounded({f"recall@{k}": 100.0 * int((ranks <= k).sum()) / len(ranks) for k in KS})


def _interval(ranks: Tensor, k: int) -> list[float]:
    return [round(end, 4) for end in wilson_interval(int((ranks <= k).sum()), len(ranks))]


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    section=Section(
        name="retrieval",
        title="Image-speech retrieval",
        about="Recall at k in percent. S2I: speech to image; I2S: image to speech, right if any "
        "caption of the image is among the first k; mean: of both directions.",
        columns=recall_columns(DIRECTIONS),
        rank_by="mean R@10",
        figures=lambda result: recall_figures(result.metrics, EMBEDDINGS, DIRECTIONS),
    ),
)
