"""Word discovery: what a cascaded model calls each spoken word, and where it hears words begin."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from s3prl_speechclip.checkpoints.locate import Located
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import decode, encode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.results import result_record
from s3prl_speechclip.structures import TaskResult

from .hearing import FRAME, Heard, hear, left_out, require_keywords
from .keyword_scores import word_of
from .languages import language_of
from .segments import TOLERANCES, Segmented, Span, boundary_scores
from .word_scores import (
    FEWEST,
    PATTERNS,
    RELATED,
    WELL,
    Recognised,
    label_by_attention,
    label_by_span,
    patterns,
    recognise,
    spoken_word,
)

TEXTS = 256  # words embedded at once
LEAST_RELATED = 10  # words that count as related to a word at least

PROTOCOL = {
    "label": "CIF: the keyword whose span shares the most time with the word; CLS tokens: the "
    "keyword that pays the word's frames the most attention, heads averaged",
    "recognition": f"k / N, the share of a word's occurrences with its most frequent label, of "
    f"words that occur {FEWEST} times or more in English recordings with word times",
    "perfect match": "the label is the word, but for s or es, or one of the word's own tokens "
    "where it has several",
    "default token": "else, the label of at least a tenth of the words and of 3",
    "semantically related": "else, the label is among the 1 % of the vocabulary's whole words (10 "
    "at least) nearest to the word by cosine of CLIP's text embeddings",
    "bucketing": "else, another word has the same label",
    "unexpected": "else",
    "segmentation": "boundaries strictly inside the utterance, matched one to one within the "
    "tolerance; cif: spans of keywords; attention: frames at or above the 0.9 quantile of a head's "
    "CLS attention, as VG-HuBERT (arXiv 2203.15081), the parallel branch's token where there is "
    "one; uniform: as many equal parts as the utterance has words",
    "precision": "fp32",
}


def evaluate_words(
    model: SpeechClip,
    located: Located,
    manifest: Manifest,
    *,
    splits: Sequence[str] | None = None,
    batch_size: int = 32,
    skip_broken: bool = False,
    seed: int = 0,
    workers: int = 0,
    show_progress: bool = True,
) -> TaskResult:
    """Measure how well a model tells spoken words apart, and names them.

    Args:
        model: in evaluation mode, with a cascaded branch.
        located: where the model came from.
        manifest: the corpus, with word times.
        splits: of the corpus; None: its test splits.
        batch_size: recordings encoded at once.
        skip_broken: leave out what cannot be read.
        seed: noted in the result; nothing here is random.
        workers: processes that read.
        show_progress: a bar on standard error.

    Raises:
        ConfigError: the model names no keywords.
        CorpusError: a split has no word times, or no word occurs often enough.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    started = time.perf_counter()
    require_keywords(model)
    splits = tuple(splits or manifest.test_splits)
    for split in splits:
        if not any(u.words and language_of(u) == "en" for u in manifest.split(split)):
            raise CorpusError(
                f"no English recording of split '{split}' of {manifest.corpus} has word times: "
                "flickr8k reads flickr_8k.ctm beside its recordings, spokencoco needs "
                "--alignments FILE"
            )
    metrics: dict[str, Any] = {}
    notes = list(manifest.notes)
    for split in splits:
        heard = hear(
            model,
            manifest,
            split,
            batch_size=batch_size,
            skip_broken=skip_broken,
            workers=workers,
            attention=True,
            show_progress=show_progress,
        )
        notes += left_out(heard, manifest, split)
        metrics[split] = split_metrics(model, heard, split)
    return result_record(
        started=started,
        task="words",
        system=model.config.variant,
        size=model.config.size,
        corpus=manifest.corpus,
        checkpoint=located.source,
        checkpoint_hash=located.digest(),
        metrics=metrics,
        protocol={**PROTOCOL, "notes": notes},
        seed=seed,
        mini=manifest.mini or model.config.size == "mini",
    )


def split_metrics(model: SpeechClip, heard: Sequence[Heard], split: str) -> dict[str, Any]:
    """Give a split's figures.

    Args:
        model: whose text embeddings say what is related.
        heard: its recordings, with attention.
        split: its name, for messages.

    Raises:
        CorpusError: no word occurs often enough.
    """
    timed = [one for one in heard if one.utterance.words and language_of(one.utterance) == "en"]
    labels = collect_labels(timed)
    words = recognise(labels)
    if not words:
        raise CorpusError(
            f"no word of split '{split}' occurs {FEWEST} times or more; choose a larger split"
        )
    found = patterns(words, related_tokens(model, [one.word for one in words]))
    counts = Counter(found)
    return {
        "recordings": len(timed),
        "recordings_without_times": len(heard) - len(timed),
        "occurrences": sum(map(len, labels.values())),
        "distinct_words": len(labels),
        "words": len(words),
        "recognition": round(sum(one.score for one in words) / len(words), 4),
        "recognised_well": round(100.0 * sum(one.score >= WELL for one in words) / len(words), 4),
        "labels": len({one.label for one in words}),
        "patterns": {name: round(100.0 * counts[name] / len(words), 4) for name in PATTERNS},
        "by_word": [_row(one, pattern) for one, pattern in zip(words, found, strict=True)],
        "segmentation": segmentation_metrics(timed),
    }


def collect_labels(heard: Sequence[Heard]) -> dict[str, list[int | None]]:
    """Label each occurrence of each word; words in order of first occurrence."""
    labels: dict[str, list[int | None]] = {}
    for one in heard:
        for word in one.utterance.words:
            text = spoken_word(word)
            if not text:
                continue
            if one.attention is not None:
                label = label_by_attention(word, one.attention, one.token_ids, FRAME)
            else:
                label = label_by_span(word, one.spans, one.token_ids)
            labels.setdefault(text, []).append(label)
    return labels


@torch.no_grad()
def related_tokens(model: SpeechClip, words: Sequence[str]) -> dict[str, frozenset[int]]:
    """Give the tokens whose words are semantically related to each word; see `word_scores`.

    Words that a small CLIP's table cannot spell are related to none.
    """
    spelt = frozenset(model.clip.vocabulary.tolist())
    readable = [w for w in words if model.clip.whole_table or spelt.issuperset(encode(w))]
    known = {
        text: token
        for token in model.clip.vocabulary.tolist()
        if (text := word_of(token)) is not None and encode(text) == [token]
    }
    texts = list(known)
    vocabulary = _embed(model, texts)
    nearest = min(len(texts), max(LEAST_RELATED, round(RELATED * len(texts))))
    found: dict[str, frozenset[int]] = dict.fromkeys(words, frozenset())
    for start in range(0, len(readable), TEXTS):
        chunk = readable[start : start + TEXTS]
        rows = (_embed(model, chunk) @ vocabulary.T).topk(nearest).indices.tolist()
        for word, near in zip(chunk, rows, strict=True):
            found[word] = frozenset(known[texts[place]] for place in near)
    return found


def segmentation_metrics(heard: Sequence[Heard]) -> dict[str, Any]:
    """Score each automatic segmentation's boundaries against those of words, by tolerance."""
    ways: Mapping[str, list[tuple[Heard, tuple[Span, ...]]]] = {
        "cif": [(one, one.spans) for one in heard if one.spans],
        "attention": [(one, one.attended) for one in heard if one.attended],
        "uniform": [(one, _equal_parts(one)) for one in heard],
    }
    found: dict[str, Any] = {}
    for way, cut in ways.items():
        recordings = [
            Segmented(spans=spans, words=one.utterance.words, duration=one.duration)
            for one, spans in cut
        ]
        if recordings:
            found[way] = {
                f"{round(1000 * tolerance)}ms": {
                    name: round(value, 4)
                    for name, value in boundary_scores(recordings, tolerance).items()
                }
                for tolerance in TOLERANCES
            }
    return found


def _equal_parts(one: Heard) -> tuple[Span, ...]:
    count = len(one.utterance.words)
    part = one.duration / count
    return tuple((k * part, (k + 1) * part) for k in range(count))


def _embed(model: SpeechClip, texts: Sequence[str]) -> torch.Tensor:
    return torch.cat(
        [
            model.encode_text(texts[start : start + TEXTS]).float().cpu()
            for start in range(0, len(texts), TEXTS)
        ]
    )


def _row(one: Recognised, pattern: str) -> dict[str, Any]:
    return {
        "word": one.word,
        "count": one.count,
        "label": "" if one.label is None else decode([one.label]),
        "hits": one.hits,
        "score": round(one.score, 4),
        "pattern": pattern,
    }
