"""Retrieval beyond images: speech and written captions, and speech in one language and another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from s3prl_speechclip.data.manifest import Utterance
from s3prl_speechclip.model.embedding import SpeechEmbeddings
from s3prl_speechclip.recall import Ranks, chance_recall, recall_of_ranks, retrieval_ranks

KS = (1, 5, 10)
FEWEST = 10  # pictures that two languages must share to be compared


def english_caption(utterance: Utterance) -> str:
    """Give what is written of a recording's picture in English; empty where nothing is."""
    spoken = utterance.text if language_of(utterance) == "en" else ""
    return (utterance.caption or spoken).strip()


def language_of(utterance: Utterance) -> str:
    """Give a recording's language; all Englishes are one."""
    return "en" if utterance.language.partition("-")[0] == "en" else utterance.language


def rows_by_language(utterances: Sequence[Utterance]) -> dict[str, Tensor]:
    """Give the places of each language's recordings, int64, languages in order of name."""
    rows: dict[str, list[int]] = {}
    for place, utterance in enumerate(utterances):
        rows.setdefault(language_of(utterance), []).append(place)
    return {language: torch.tensor(rows[language]) for language in sorted(rows)}


def recall_by_language(ranks: Ranks, utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Give speech-to-image recall for each language's recordings, all images being candidates."""
    found: dict[str, Any] = {}
    for language, rows in rows_by_language(utterances).items():
        places = ranks.speech_to_image[rows]
        found[language] = {
            "recordings": len(rows),
            **{f"recall@{k}": _share(places, k) for k in KS},
        }
    return found


def text_recall(
    named: Mapping[str, Tensor], captions: Sequence[str], texts: Tensor, distinct: Sequence[str]
) -> dict[str, Any]:
    """Measure retrieval between recordings and written captions, which training never paired.

    A recording's right answer is its own caption, a caption's any recording of it.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        captions: of the recordings, N.
        texts: embeddings of the distinct captions, (M, E) unit vectors.
        distinct: those captions, M.

    Returns:
        Recall both ways by embedding, and what chance gives.
    """
    place = {caption: number for number, caption in enumerate(distinct)}
    speech_ids = [place[caption] for caption in captions]
    text_ids = list(range(len(distinct)))
    found: dict[str, Any] = {"recordings": len(captions), "captions": len(distinct)}
    for name, vectors in named.items():
        ranks = retrieval_ranks(vectors, texts, speech_ids, text_ids)
        found[name] = _as_text(recall_of_ranks(ranks, KS))
    found["chance"] = _as_text(chance_recall(speech_ids, text_ids, KS))
    return found


def crossing_recall(
    named: Mapping[str, Tensor], speech: SpeechEmbeddings, utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Measure retrieval between recordings of the same picture in two languages.

    For each picture described in both, its first recording in the one language looks for any of its
    recordings in the other, among those of all such pictures.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        speech: gives the recordings' pictures.
        utterances: the recordings, N.

    Returns:
        `pictures`: how many each pair of languages shares, `FEWEST` at least; by embedding, and for
        chance: `mean` over the pairs, and each pair's `recall@10`. Empty where there is no pair.
    """
    rows = rows_by_language(utterances)
    ids = speech.pair_ids
    pictures: dict[str, int] = {}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for source, target in permutations(rows, 2):
        both = set(ids[rows[source]].tolist()) & set(ids[rows[target]].tolist())
        if len(both) < FEWEST:
            continue
        pair = f"{source}>{target}"
        pictures[pair] = len(both)
        queries = _holding(rows[source], ids, both)
        candidates = _holding(rows[target], ids, both)
        for name, vectors in named.items():
            ranks = retrieval_ranks(
                vectors[candidates], vectors[queries], ids[candidates], ids[queries]
            )
            recall = recall_of_ranks(ranks, KS)
            found.setdefault(name, {})[pair] = recall["image_to_speech"]
        chance = chance_recall(ids[candidates], ids[queries], KS)
        found.setdefault("chance", {})[pair] = chance["image_to_speech"]
    if not pictures:
        return {}
    return {"pictures": pictures} | {
        name: {
            "mean": {
                f"recall@{k}": round(sum(at[k] for at in pairs.values()) / len(pairs), 4)
                for k in KS
            },
            "recall@10": {pair: round(at[10], 4) for pair, at in pairs.items()},
        }
        for name, pairs in found.items()
    }


def _holding(rows: Tensor, ids: Tensor, wanted: set[int]) -> Tensor:
    return rows[torch.tensor([identity in wanted for identity in ids[rows].tolist()])]


def _as_text(recall: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    names = {"speech_to_image": "speech_to_text", "image_to_speech": "text_to_speech"}
    return {
        names.get(direction, direction): {f"recall@{k}": round(v, 4) for k, v in at.items()}
        for direction, at in recall.items()
    }


def _share(ranks: Tensor, k: int) -> float:
    return round(100.0 * int((ranks <= k).sum()) / len(ranks), 4)
