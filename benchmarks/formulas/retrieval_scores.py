"""Retrieval's figures: recall by kind of recording, by language, and against written captions.

N recordings, M images, E joint space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from s3prl_speechclip.modules.recall import (
    Ranks,
    Recall,
    chance_recall,
    recall_of_ranks,
    retrieval_ranks,
    wilson_interval,
)

from ..shared.benchmark import rounded
from ..shared.board import CHANCE, KS

if TYPE_CHECKING:
    from s3prl_speechclip.data.manifest import Utterance

FEWEST = 10  # images that two languages must share to be compared


def named_embeddings(by_name: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a split's embeddings by name, and where there are several their sum, unit vectors."""
    named = dict(by_name)
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
            **with_intervals(ranks),
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
    languages = [utterance.spoken_language for utterance in utterances]
    return {
        language: torch.tensor([row for row, other in enumerate(languages) if other == language])
        for language in sorted(set(languages))
    }


def text_recall(
    named: Mapping[str, Tensor], captions: Sequence[str], texts: Tensor, distinct: Sequence[str]
) -> dict[str, Any]:
    """Measure retrieval between recordings and written captions, which training never paired.

    A recording's right answer is its own caption, a caption's any recording of it.

    Args:
        named: embeddings of N recordings by name, (N, E) unit vectors.
        captions: captions of the recordings, N.
        texts: embeddings of the distinct captions, (M, E) unit vectors.
        distinct: these captions, M.
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


def with_intervals(ranks: Ranks) -> dict[str, Any]:
    """Return recall in both directions, with intervals."""
    intervals = {
        direction: {f"recall@{k}": _interval(places, k) for k in KS}
        for direction, places in vars(ranks).items()
    }
    return {**_keyed(recall_of_ranks(ranks, KS)), "interval_95": intervals}


def _keyed(recall: Recall) -> dict[str, Any]:
    return {d: rounded({f"recall@{k}": v for k, v in at.items()}) for d, at in recall.items()}


def _shares(ranks: Tensor) -> dict[str, float]:
    return rounded({f"recall@{k}": 100.0 * int((ranks <= k).sum()) / len(ranks) for k in KS})


def _interval(ranks: Tensor, k: int) -> list[float]:
    return [round(end, 4) for end in wilson_interval(int((ranks <= k).sum()), len(ranks))]
