"""Words that keywords name, by the number of training pictures whose captions have them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...benchmarks.formulas.keyword_scores import (
    percent,
    read_caption,
    stop_words,
    word_of,
    words_of,
)
from ...benchmarks.retrieval import written_vectors
from ...benchmarks.shared.benchmark import Trial, request
from ...benchmarks.shared.decoding import Decoded, decode_split
from ...data.manifest import Manifest
from ...model.embedding import embed_images
from ...modules.recall import recall_of_ranks, retrieval_ranks
from ...results import markdown_table, read_result
from ...structures import TaskResult
from .report import SPLITS

BANDS = {"none": (0, 0), "1": (1, 1), "2 to 4": (2, 4), "5 or more": (5, math.inf)}
"""Numbers of training pictures."""
LEAST = (0, 1, 2, 5)
"""Training pictures that a caption's words have at least, to be embedded."""
K = 10
PROTOCOL = {
    "recordings": "those in English",
    "words": "distinct words of a recording's caption without stop words, as the keywords "
    "benchmark counts them; by the number of training pictures whose English caption has the word",
    "share": "percent of the words",
    "in_vocabulary": "percent of them that one token of the model's vocabulary names",
    "named": "percent of them that a keyword of the recording names",
    "captions": f"recall@{K} from recording to picture, recordings embedded by CLIP as those words "
    "of their captions that so many training pictures have at least; without one, a random vector",
    "parallel": "the same with the model's parallel embedding of the recording",
}


def evaluate_frequency(folder: Path, device: str = "auto") -> TaskResult:
    """Measure a model with keywords on the English test recordings of `stamps`.

    Recall with part of the words of captions is the upper bound of a model that recognises just
    those words, by the CLIP that it was trained with.
    """
    trial = Trial(request(folder, "retrieval", data="stamps", keep_states=True, device=device))
    pictures = pictures_by_word(trial.manifest)
    nameable = frozenset(map(word_of, trial.model.clip.vocabulary.tolist()))
    metrics: dict[str, Any] = {}
    for split in trial.splits:
        data = trial.retrieval_set(split)
        images = embed_images(trial.model, data), data.image_ids
        decoded = [one for one in decode_split(trial, split) if one.language == "en"]
        captions = {
            str(least): written_vectors(trial.model, known_words(decoded, pictures, least))
            for least in LEAST
        }
        found: dict[str, Any] = {
            "recordings": len(decoded),
            "words": named_by_frequency(decoded, pictures, nameable),
            "captions": {
                least: _recall(decoded, vectors, *images) for least, vectors in captions.items()
            },
        }
        if "parallel" in decoded[0].embeddings:
            vectors = torch.stack([one.embeddings["parallel"] for one in decoded])
            found["parallel"] = _recall(decoded, vectors, *images)
        metrics[split] = found
    return trial.record("frequency", metrics, PROTOCOL)


def pictures_by_word(manifest: Manifest) -> Counter[str]:
    """Count the training pictures whose English caption has a word."""
    pictures: dict[str, set[int]] = defaultdict(set)
    for one in manifest.split(manifest.train_split):
        for word in read_caption(one.english, stop_words()).words:
            pictures[word].add(one.pair_id)
    return Counter({word: len(ids) for word, ids in pictures.items()})


def named_by_frequency(
    decoded: Sequence[Decoded], pictures: Counter[str], nameable: frozenset[str | None]
) -> dict[str, dict[str, float]]:
    """Return `share`, `in_vocabulary` and `named` of `PROTOCOL` for each of `BANDS` with words."""
    counts = {name: Counter[str]() for name in BANDS}
    for one in decoded:
        said = frozenset(map(word_of, one.token_ids))
        for word in read_caption(one.caption, stop_words()).words:
            name = next(n for n, (low, high) in BANDS.items() if low <= pictures[word] <= high)
            counts[name].update(words=1, in_vocabulary=word in nameable, named=word in said)
    total = sum(count["words"] for count in counts.values())
    return {
        name: {
            "share": round(percent(count["words"], total), 4),
            "in_vocabulary": round(percent(count["in_vocabulary"], count["words"]), 4),
            "named": round(percent(count["named"], count["words"]), 4),
        }
        for name, count in counts.items()
        if count
    }


def known_words(decoded: Sequence[Decoded], pictures: Counter[str], least: int) -> list[str]:
    """Return the words of each caption that so many training pictures have, stop words left out."""
    return [
        " ".join(w for w in words_of(one.caption) if w not in stop_words() and pictures[w] >= least)
        for one in decoded
    ]


def _recall(
    decoded: Sequence[Decoded], vectors: Tensor, images: Tensor, image_ids: Tensor
) -> float:
    ids = torch.tensor([one.utterance.pair_id for one in decoded])
    ranks = retrieval_ranks(vectors, images, ids, image_ids)
    return round(recall_of_ranks(ranks, (K,))["speech_to_image"][K], 4)


def frequency_tables(results: Path) -> tuple[str, str]:
    """Lay the results out: words named by every model, and recall by captions and recordings.

    A cell has `SPLITS`, test_speaker / test_image.
    """
    models = [read_result(path) for path in sorted(results.glob("frequency-*.json"))]
    any_of = models[0].metrics  # captions and CLIP are the same for all

    def cell(metrics: Mapping[str, Any], *keys: str) -> str:
        found = [reduce(lambda at, key: at.get(key, {}), keys, metrics[split]) for split in SPLITS]
        return " / ".join(f"{one:.1f}" if one != {} else "-" for one in found)

    words = [
        (
            band,
            cell(any_of, "words", band, "share"),
            cell(any_of, "words", band, "in_vocabulary"),
            *(cell(model.metrics, "words", band, "named") for model in models),
        )
        for band in BANDS
    ]
    head = ("training pictures", "share of words", "in vocabulary", *(m.system for m in models))
    written = {n: f"captions, words of {n} or more training pictures" for n in LEAST}
    written[0] = "captions, all words"
    found = [(name, cell(any_of, "captions", str(least))) for least, name in written.items()]
    found += [
        (f"recordings, parallel embedding of {model.system}", cell(model.metrics, "parallel"))
        for model in models
        if "parallel" in model.metrics[SPLITS[0]]
    ]
    return markdown_table(head, words), markdown_table(("", f"recall@{K}"), found)
