"""Keywords of a cascaded model on a corpus' test splits: do they name what is said, and when?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_speechclip.checkpoints.locate import Located
from s3prl_speechclip.data.feature_store import FeatureStore
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, decode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.results import STORED, result_record
from s3prl_speechclip.structures import TaskResult

from .hearing import Heard, hear, left_out, naming_recordings, nearest_tokens, require_keywords
from .keyword_scores import (
    NEIGHBOURS,
    Naming,
    Neighbours,
    chance_hit_rate,
    hit_rate,
    hit_rate_by_slot,
    keyword_counts,
    shuffled_hit_rate,
    stop_words,
    token_scores,
    word_scores,
)
from .languages import language_of
from .segments import TOLERANCES, Segmented, boundary_scores, naming_scores, timing_errors

FREQUENT = 20  # keywords listed in the result

PROTOCOL = {
    "hit_rate": f"percent of keywords with a token of the English caption among the {NEIGHBOURS} "
    "nearest of the reduced vocabulary by cosine, the keyword's own among them; special tokens on "
    "neither side; per slot and mean for a fixed number of keywords, per keyword fired by CIF; "
    "SpeechCLIP (arXiv 2210.00705), section 4.4",
    "any": "percent of recordings with a hit",
    "chance": f"expectation with {NEIGHBOURS} different tokens at random, exact",
    "shuffled": "expectation of the same keywords against the split's captions at random, exact",
    "words, tokens": "this project's definition: distinct words (tokens) of a recording's keywords "
    "against the caption's, micro-averaged; a keyword names a word if its token ends one and is of "
    "letters and digits",
    "without_stop_words": "the same against the caption's words that are not in "
    "assets/stopwords/english.txt (PostgreSQL's english.stop, 127 words)",
    "recordings": "those in English; the others, against the English caption, by language",
    "boundaries": "of CIF spans against those of words, strictly inside the utterance, matched one "
    "to one within the tolerance; R-value of Rasanen, Laine, Altosaar 2009",
    "timing": "of each span and the word that it shares the most time with, seconds",
    "named_at": "percent of keywords that name a word that their span overlaps: by the token itself"
    f", by one of {NEIGHBOURS} neighbours, and so anywhere in the utterance",
    "precision": "fp32",
}


@dataclass(frozen=True)
class KeywordReport:
    """A result, and what pages and plots are made of."""

    result: TaskResult
    heard: dict[str, list[Heard]]
    """Recordings by split."""
    neighbours: Neighbours


def evaluate_keywords(
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
    """Measure what keywords name.

    Args:
        model: in evaluation mode, with a cascaded branch.
        located: where the model came from.
        manifest: the corpus.
        splits: of the corpus; None: its test splits.
        batch_size: recordings encoded at once.
        skip_broken: leave out what cannot be read.
        seed: noted in the result; nothing here is random.
        workers: processes that read.
        features: hidden states by split, to be read in place of recordings.
        show_progress: a bar on standard error.

    Raises:
        ConfigError: the model names no keywords.
        CorpusError: no recording of a split has an English caption.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    return report_keywords(
        model,
        located,
        manifest,
        splits=splits,
        batch_size=batch_size,
        skip_broken=skip_broken,
        seed=seed,
        workers=workers,
        features=features,
        show_progress=show_progress,
    ).result


def report_keywords(
    model: SpeechClip,
    located: Located,
    manifest: Manifest,
    *,
    splits: Sequence[str] | None = None,
    batch_size: int = 32,
    skip_broken: bool = False,
    seed: int = 0,
    workers: int = 0,
    vectors: int = 0,
    features: Mapping[str, FeatureStore] | None = None,
    show_progress: bool = True,
) -> KeywordReport:
    """Measure as `evaluate_keywords`, and give what was heard beside the result.

    Args:
        model, located, manifest, splits, batch_size, skip_broken, seed, workers, features,
            show_progress: as there.
        vectors: recordings of each split whose keyword vectors are kept.
    """
    started = time.perf_counter()
    require_keywords(model)
    splits = tuple(splits or manifest.test_splits)
    neighbours = nearest_tokens(model)
    vocabulary = frozenset(model.clip.vocabulary.tolist()) - frozenset(SPECIAL_TOKENS)
    heard: dict[str, list[Heard]] = {}
    metrics: dict[str, Any] = {}
    notes = list(manifest.notes)
    for split in splits:
        heard[split] = hear(
            model,
            manifest,
            split,
            batch_size=batch_size,
            skip_broken=skip_broken,
            workers=workers,
            vectors=vectors,
            stored=(features or {}).get(split),
            show_progress=show_progress,
        )
        notes += left_out(heard[split], manifest, split)
        metrics[split] = split_metrics(heard[split], split, neighbours, vocabulary)
    result = result_record(
        started=started,
        task="keywords",
        system=model.config.variant,
        size=model.config.size,
        corpus=manifest.corpus,
        checkpoint=located.source,
        checkpoint_hash=located.digest(),
        metrics=metrics,
        protocol={
            **PROTOCOL,
            **({"hidden_states": STORED} if features else {}),
            "vocabulary": len(vocabulary),
            "keyword_norm": model.config.keywords.norm,
            "notes": notes,
        },
        seed=seed,
        mini=manifest.mini or model.config.size == "mini",
    )
    return KeywordReport(result, heard, neighbours)


def split_metrics(
    heard: Sequence[Heard], split: str, neighbours: Neighbours, vocabulary: frozenset[int]
) -> dict[str, Any]:
    """Give a split's figures.

    Args:
        heard: its recordings.
        split: its name, for messages.
        neighbours: of every token.
        vocabulary: tokens that a keyword can be, special tokens left out.

    Raises:
        CorpusError: no recording has an English caption.
    """
    captioned, without = naming_recordings(heard)
    by_language: dict[str, list[Naming]] = {}
    for one, caption in captioned:
        naming = Naming(token_ids=one.token_ids, caption=caption)
        by_language.setdefault(language_of(one.utterance), []).append(naming)
    namings = by_language.pop("en", [])
    if not namings:
        raise CorpusError(
            f"no recording of split '{split}' is in English with a caption, which keywords are "
            "measured against; choose another corpus or split"
        )
    slots = not any(one.spans for one in heard)
    found: dict[str, Any] = {
        "recordings": len(namings),
        "recordings_without_caption": without,
        **_naming_metrics(namings, neighbours, vocabulary, slots=slots),
        "counts": _rounded(keyword_counts(namings)),
        "frequent": _frequent(namings),
    }
    if by_language:
        found["by_language"] = {
            language: {
                "recordings": len(group),
                **_hit_metrics(group, neighbours, vocabulary, frozenset(), slots=slots),
            }
            for language, group in sorted(by_language.items())
        }
    timed = [
        Segmented(
            spans=one.spans,
            words=one.utterance.words,
            duration=one.duration,
            token_ids=one.token_ids,
        )
        for one, _ in captioned
        if one.spans and one.utterance.words
    ]
    if timed:
        found["timed_recordings"] = len(timed)
        found["boundaries"] = {
            f"{round(1000 * tolerance)}ms": _rounded(boundary_scores(timed, tolerance))
            for tolerance in TOLERANCES
        }
        found["timing"] = _rounded(timing_errors(timed))
        found["named_at"] = _rounded(naming_scores(timed, neighbours))
    return found


def _naming_metrics(
    namings: Sequence[Naming],
    neighbours: Neighbours,
    vocabulary: frozenset[int],
    *,
    slots: bool,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, without in (("with_stop_words", frozenset()), ("without_stop_words", stop_words())):
        found[name] = {
            "hit_rate": _hit_metrics(namings, neighbours, vocabulary, without, slots=slots),
            "words": _rounded(word_scores(namings, without)),
            "tokens": _rounded(token_scores(namings, without)),
        }
    return found


def _hit_metrics(
    namings: Sequence[Naming],
    neighbours: Neighbours,
    vocabulary: frozenset[int],
    without: frozenset[str],
    *,
    slots: bool,
) -> dict[str, Any]:
    found: dict[str, Any] = _rounded(hit_rate(namings, neighbours, without))
    found["chance"] = round(chance_hit_rate(namings, vocabulary, without), 4)
    found["shuffled"] = round(shuffled_hit_rate(namings, neighbours, without), 4)
    if slots:
        rates = hit_rate_by_slot(namings, neighbours, without)
        found["per_slot"] = [round(rate, 4) for rate in rates]
    return found


def _frequent(namings: Sequence[Naming]) -> list[list[Any]]:
    counts = Counter(token for naming in namings for token in naming.token_ids)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[decode([token]), count] for token, count in ordered[:FREQUENT]]


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}
