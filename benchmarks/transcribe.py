"""Do keywords, read in order, transcribe what is said, or translate it into English?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.encoders.vocabulary import encode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.structures import TaskResult

from .formulas.transcript_scores import (
    bleu_signature,
    count,
    frequent_tokens,
    other_texts,
    score_intervals,
    scored_tokens,
    scores,
)
from .shared.benchmark import (
    Benchmark,
    Measured,
    Trial,
    add_corpus_options,
    add_model_options,
    rounded,
    titled_table,
)
from .shared.board import Column, Figure, Section
from .shared.decoding import Decoded, decode_split, require_keywords

KEYWORDS, SHUFFLED, OTHER, FREQUENT = "keywords", "shuffled", "other_caption", "frequent"
TRANSCRIPTION, TRANSLATION = "transcription", "translation"
Tokens = tuple[int, ...]
SCORES = {
    "token_error": "token error",
    "word_error": "WER",
    "precision": "content P",
    "recall": "content R",
    "f1": "content F1",
    "bleu": "BLEU",
}
"""Scores in percent, and their headings."""

PROTOCOL = {
    KEYWORDS: "their tokens in order: in time where they have spans, else by slot of the CLS token",
    TRANSCRIPTION: "English recordings; target: the transcript, else the picture's caption",
    TRANSLATION: "recordings in other languages, all of them and by language; target: the "
    "picture's English caption",
    "both sides": "tokens without a letter or digit are left out, a run of one token is merged to "
    "one; words: the tokens' text in lower case, without punctuation",
    "token_error, word_error": "percent, Levenshtein distance to the target per token (word) of it",
    "precision, recall, f1": "percent, distinct content words of a recording, micro-averaged; stop "
    "words: assets/stopwords/english.txt (PostgreSQL's english.stop, 127 words)",
    "length": "tokens of the keywords per token of the target",
    SHUFFLED: "floor: the same keywords against the target of another recording",
    OTHER: "floor: the target of another recording as a hypothesis; drawn with seed 0 among those "
    "that differ, of the same language",
    FREQUENT: "floor: the most frequent tokens of the distinct training captions, as many as they "
    "have on average",
    "interval_95": "of the keywords' scores, by resampling pictures, 1000 times",
    "precision": "fp32",
}


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)


def run(args: Namespace) -> Measured:
    """Measure a model's keywords as transcripts and as translations.

    Raises:
        ConfigError: the model has no cascaded branch.
        CorpusError: no recording of a split has an English caption.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    trial = Trial(args)
    require_keywords(trial.model)
    frequent = frequent_tokens(training_targets(trial.manifest))
    metrics = {
        split: split_metrics(decode_split(trial, split), split, frequent) for split in trial.splits
    }
    return Measured(trial.record("transcribe", metrics, {**PROTOCOL, "bleu": bleu_signature()}))


def target(utterance: Utterance) -> Tokens:
    """Return the tokens that a recording's keywords should be: what is said, in English."""
    said = utterance.text.strip() if utterance.spoken_language == "en" else ""
    return scored_tokens(encode(said or utterance.english))


def training_targets(manifest: Manifest) -> list[Tokens]:
    """Return the distinct captions of the training split; none where there is no such split."""
    found = {target(u) for u in manifest.utterances if u.split == manifest.train_split}
    return sorted(found - {()})


def split_metrics(decoded: Sequence[Decoded], split: str, frequent: Tokens) -> dict[str, Any]:
    """Compute the metrics of a split.

    Args:
        decoded: recordings of the split.
        split: name of the split.
        frequent: the hypothesis of the floor of that name; empty: there is no such floor.

    Raises:
        CorpusError: no recording has an English caption.
    """
    known = [one for one in decoded if target(one.utterance)]
    if not known:
        raise CorpusError(
            f"no recording of split '{split}' has an English caption, which keywords are measured "
            "against; choose another corpus or split"
        )
    english = [one for one in known if one.language == "en"]
    others = [one for one in known if one.language != "en"]
    found: dict[str, Any] = {"recordings_without_caption": len(decoded) - len(known)}
    if english:
        found[TRANSCRIPTION] = measure(english, frequent)
    if others:
        found[TRANSLATION] = measure(others, frequent)
        found["by_language"] = {
            language: measure([one for one in others if one.language == language], frequent)
            for language in sorted({one.language for one in others})
        }
    return found


def measure(decoded: Sequence[Decoded], frequent: Tokens) -> dict[str, Any]:
    """Score recordings that have targets, and the floors beside."""
    keywords = [scored_tokens(one.token_ids) for one in decoded]
    targets = [target(one.utterance) for one in decoded]
    pictures = [one.utterance.pair_id for one in decoded]
    pairs = {KEYWORDS: (keywords, targets)}
    if others := other_texts(targets):
        pairs |= {SHUFFLED: (keywords, others), OTHER: (others, targets)}
    if frequent:
        pairs[FREQUENT] = ([frequent] * len(targets), targets)
    found: dict[str, Any] = {"recordings": len(decoded), "pictures": len(set(pictures))}
    for name, (hypotheses, references) in pairs.items():
        counts = np.array([count(*pair) for pair in zip(hypotheses, references, strict=True)])
        found[name] = rounded(scores(counts.sum(0)))
        if name == KEYWORDS:
            found[name]["interval_95"] = {
                score: [round(end, 4) for end in ends]
                for score, ends in score_intervals(counts, pictures).items()
            }
    return found


def table(result: TaskResult) -> str:
    """Lay a result out: transcription and translation with their floors, and languages."""
    head = ("split", "speech", "recordings", "hypothesis", *SCORES.values(), "length")

    def shown(split: str, speech: str, part: Mapping[str, Any], names: Sequence[str]) -> Any:
        for name in names:
            if name in part:
                cells = [f"{part[name][score]:.1f}" for score in SCORES]
                about = (split, speech, f"{part['recordings']:,}", name.replace("_", " "))
                yield (*about, *cells, f"{part[name]['length']:.2f}")

    rows = []
    for split, found in result.metrics.items():
        for kind in (TRANSCRIPTION, TRANSLATION):
            if kind in found:
                rows += shown(split, kind, found[kind], (KEYWORDS, SHUFFLED, OTHER, FREQUENT))
        for language, part in found.get("by_language", {}).items():
            rows += shown(split, f"from {language}", part, (KEYWORDS,))
    return titled_table(result, "keywords as a transcript, in percent", head, rows)


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    for split, found in result.metrics.items():
        for kind in (TRANSCRIPTION, TRANSLATION):
            for name in (KEYWORDS, OTHER, FREQUENT):
                if name in found.get(kind, {}):
                    for score in SCORES:
                        yield Figure(
                            column=score,
                            keys=(split, kind, name, score),
                            split=split,
                            detail=kind,
                            baseline="" if name == KEYWORDS else name.replace("_", " "),
                        )


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    extra="superb",
    section=Section(
        name="transcribe",
        title="Transcription and translation",
        about="Keywords in order as a transcript of English speech, or an English translation of "
        "other speech, against the caption; percent. Token and word error rate, precision, recall "
        "and F1 of distinct content words, BLEU. Floors: another recording's caption, and the most "
        "frequent tokens of training captions.",
        columns=tuple(
            Column(name=score, title=heading, lower_is_better=score.endswith("error"))
            for score, heading in SCORES.items()
        ),
        rank_by="f1",
        figures=board_figures,
    ),
)
