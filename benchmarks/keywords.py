"""Do keywords name what is said, and when?"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, decode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.options import add_option
from s3prl_speechclip.structures import TaskResult

from .formulas.keyword_scores import (
    NEIGHBOURS,
    Naming,
    Neighbours,
    chance_hit_rate,
    hit_rate,
    hit_rate_by_slot,
    keyword_counts,
    naming_scores,
    shuffled_hit_rate,
    stop_words,
)
from .formulas.segments import boundary_scores_by_tolerance, named_at, timing_errors
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
from .shared.decoding import Decoded, decode_split, nearest_tokens, require_keywords

logger = logging.getLogger(__name__)

CAPTIONS = {"with_stop_words": "whole", "without_stop_words": "no stop words"}
"""Keys of a result's figures, and what they count of a caption."""
SHOWN = 12  # recordings of each group and split on the page
PLOTTED = 500  # recordings of each split in the plot
SLOTS = tuple(f"kw{number}" for number in range(1, 9))
FREQUENT = 20  # keywords listed in the result
SHOWN_FIGURES = {
    "hit rate": ("hit_rate", "mean"),
    "chance": ("hit_rate", "chance"),
    "shuffled": ("hit_rate", "shuffled"),
    "words P": ("words", "precision"),
    "words R": ("words", "recall"),
    "words F1": ("words", "f1"),
    "tokens F1": ("tokens", "f1"),
    "keywords": ("counts", "keywords"),
    "words": ("counts", "words"),
    "duplicates": ("counts", "duplicates"),
}

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


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)
    add_option(
        p,
        "--page N",
        "recordings of each split shown as named best, drawn at random and failed, each, on "
        "the page beside the result, NAME.html; 0: no page (default: %(default)s)",
        default=SHOWN,
    )
    add_option(
        p,
        "--plot N",
        "recordings of each split whose keywords are drawn among CLIP's tokens, "
        "NAME.png; 0: no plot (default: %(default)s)",
        default=PLOTTED,
    )


def run(args: Namespace) -> Measured:
    """Measure what keywords name, and where they lie among CLIP's tokens.

    Raises:
        ConfigError: the model has no cascaded branch.
        CorpusError: no recording of a split has an English caption.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    trial = Trial(args)

    # Drawing is imported where it is used: the leaderboard reads this module too.
    from .pages.keywords import keyword_placement, plot_keywords, write_page

    model = trial.model
    require_keywords(model)
    neighbours = nearest_tokens(model)
    vocabulary = frozenset(model.clip.vocabulary.tolist()) - frozenset(SPECIAL_TOKENS)
    decoded: dict[str, list[Decoded]] = {}
    metrics: dict[str, Any] = {}
    for split in trial.splits:
        decoded[split] = decode_split(trial, split, vectors=args.plot)
        metrics[split] = split_metrics(decoded[split], split, neighbours, vocabulary)
        if args.plot > 0 and any(one.queries is not None for one in decoded[split]):
            metrics[split]["embeddings"] = keyword_placement(model, decoded[split])
    about = {"vocabulary": len(vocabulary), "keyword_norm": model.config.keywords.norm}
    result = trial.record("keywords", metrics, {**PROTOCOL, **about})

    def write_beside(path: Path) -> None:
        plotted = {s: ones for s, ones in decoded.items() if "embeddings" in metrics[s]}
        if plotted:
            plot_keywords(model, plotted, path.with_suffix(".png"))
        if args.page > 0:
            page = path.with_suffix(".html")
            write_page(result, decoded, neighbours, trial.manifest, page, args.page)
            logger.info("page: %s", page)

    return Measured(result, write_beside)


def split_metrics(
    decoded: Sequence[Decoded], split: str, neighbours: Neighbours, vocabulary: frozenset[int]
) -> dict[str, Any]:
    """Compute the metrics of a split; `vocabulary` are the tokens that a keyword can be.

    Raises:
        CorpusError: no recording has an English caption.
    """
    captioned = [one for one in decoded if one.caption]
    by_language: dict[str, list[Naming]] = {}
    for one in captioned:
        naming = Naming(token_ids=one.token_ids, caption=one.caption)
        by_language.setdefault(one.language, []).append(naming)
    namings = by_language.pop("en", [])
    if not namings:
        raise CorpusError(
            f"no recording of split '{split}' is in English with a caption, which keywords are "
            "measured against; choose another corpus or split"
        )
    slots = not any(one.spans for one in decoded)

    def hits(group: Sequence[Naming], without: frozenset[str]) -> dict[str, Any]:
        rates: dict[str, Any] = rounded(hit_rate(group, neighbours, without))
        rates["chance"] = round(chance_hit_rate(group, vocabulary, without), 4)
        rates["shuffled"] = round(shuffled_hit_rate(group, neighbours, without), 4)
        if slots:
            by_slot = hit_rate_by_slot(group, neighbours, without)
            rates["per_slot"] = [round(rate, 4) for rate in by_slot]
        return rates

    found: dict[str, Any] = {
        "recordings": len(namings),
        "recordings_without_caption": len(decoded) - len(captioned),
    }
    for name, without in zip(CAPTIONS, (frozenset[str](), stop_words()), strict=True):
        scores = naming_scores(namings, without)
        found[name] = {"hit_rate": hits(namings, without)}
        found[name] |= {kind: rounded(score) for kind, score in scores.items()}
    found["counts"] = rounded(keyword_counts(namings))
    found["frequent"] = _frequent(namings)
    if by_language:
        found["by_language"] = {
            language: {"recordings": len(group), **hits(group, frozenset())}
            for language, group in sorted(by_language.items())
        }
    timed = [one.segmented() for one in captioned if one.spans and one.utterance.words]
    if timed:
        found["timed_recordings"] = len(timed)
        found["boundaries"] = boundary_scores_by_tolerance(timed)
        found["timing"] = rounded(timing_errors(timed))
        found["named_at"] = rounded(named_at(timed, neighbours))
    return found


def _frequent(namings: Sequence[Naming]) -> list[list[Any]]:
    counts = Counter(token for naming in namings for token in naming.token_ids)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[decode([token]), count] for token, count in ordered[:FREQUENT]]


def table(result: TaskResult) -> str:
    """Lay a result out, with and without stop words."""
    rows = []
    for split, metrics in result.metrics.items():
        for key, name in CAPTIONS.items():
            figures = []
            for keys in SHOWN_FIGURES.values():
                value = metrics if keys[0] == "counts" else metrics[key]
                for part in keys:
                    value = value[part]
                figures.append(f"{value:.1f}")
            rows.append((split, name, *figures))
    head = ("split", "caption", *SHOWN_FIGURES)
    recordings = ", ".join(
        f"{split}: {m['recordings']:,} English recordings" for split, m in result.metrics.items()
    )
    return titled_table(result, "keywords in percent", head, rows, recordings)


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    for split, found in result.metrics.items():
        slots = found["with_stop_words"]["hit_rate"].get("per_slot", ())
        columns: dict[str, tuple[str, ...]] = {
            "average": ("hit_rate", "mean"),
            "chance": ("hit_rate", "chance"),
            "words_f1": ("words", "f1"),
            **{SLOTS[n]: ("hit_rate", "per_slot", str(n)) for n in range(min(8, len(slots)))},
        }
        for column, keys in columns.items():
            yield Figure(column=column, keys=(split, "with_stop_words", *keys), split=split)


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    extra="superb",
    section=Section(
        name="keywords",
        title="Keywords",
        about="Percent of keywords with a word piece of the caption among their 5 nearest tokens, "
        "by keyword slot and on average; F1 of the distinct words that keywords name against the "
        "caption's, as this project defines it.",
        columns=(
            *(Column(name=name) for name in (*SLOTS, "average")),
            Column(name="chance", title="average, by chance", merit=False),
            Column(name="words_f1", title="words F1"),
        ),
        rank_by="average",
        figures=board_figures,
    ),
)
