"""How well keywords name what a caption says: pure functions over tokens and words.

A keyword is a BPE token id that a cascaded branch chose. Its neighbours are the tokens of the
reduced vocabulary nearest to it, itself first. Special tokens (padding, start and end of text) are
on neither side: they are never neighbours, and captions are encoded without them.

The hit rate is SpeechCLIP's (arXiv 2210.00705, section 4.4). Precision, recall and F1 of words and
tokens, which SpeechCLIP+ (arXiv 2402.06959) reports without saying how they are counted, are this
project's own definition, as are the counts.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import NamedTuple

from s3prl_speechclip.encoders.vocabulary import WORD_END, decode, encode, tokenizer

NEIGHBOURS = 5  # tokens that may hit, the keyword's own among them
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # runs of letters or digits, with inner apostrophes
"""Words of a caption, in lower case."""

Neighbours = Mapping[int, Sequence[int]]
"""The `NEIGHBOURS` nearest tokens of each token, itself first, as original BPE ids."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Keywords of one recording, and what they should name."""

    token_ids: tuple[int, ...]
    """Original BPE ids, in order."""
    caption: str


class Caption(NamedTuple):
    """A caption, as tokens and as words."""

    tokens: frozenset[int]
    words: frozenset[str]


@cache
def stop_words() -> frozenset[str]:
    """Return the English stop words; `assets/stopwords/README.md` names their source."""
    listing = resources.files("s3prl_speechclip") / "assets" / "stopwords" / "english.txt"
    return frozenset(listing.read_text(encoding="utf-8").split())


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, in lower case."""
    return WORD.findall(text.lower())


@cache
def read_caption(text: str, without: frozenset[str] = frozenset()) -> Caption:
    """Return the tokens and words of a caption.

    Args:
        text: the caption.
        without: words that do not count. Tokens are then those of the words that are left; with no
            such words they are those of the whole caption, punctuation included, as in SpeechCLIP.
    """
    words = [word for word in words_of(text) if word not in without]
    tokens = [i for word in words for i in encode(word)] if without else encode(text)
    return Caption(frozenset(tokens), frozenset(words))


@cache
def word_of(token_id: int) -> str | None:
    """Return the word that a token alone names; None where it names none.

    A token names a word if it ends one (`</w>`) and is made of letters and digits.
    """
    piece = tokenizer().decoder.get(token_id, "")
    if not piece.endswith(WORD_END):
        return None
    text = decode([token_id]).lower()
    return text if WORD.fullmatch(text) else None


def hit_rate(
    namings: Sequence[Naming], neighbours: Neighbours, without: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Measure the share of keywords that have a token of the caption among their neighbours.

    For a fixed number of keywords this is SpeechCLIP's figure, the rate of each slot, averaged; for
    a variable number it is the same per fired keyword. `without` are words that do not count.

    Returns:
        Percent: `mean` over keywords, and `any`, of recordings that have a hit.
    """
    hits = keywords = found = 0
    for naming in namings:
        tokens = read_caption(naming.caption, without).tokens
        here = sum(not tokens.isdisjoint(neighbours[i]) for i in naming.token_ids)
        hits += here
        found += here > 0
        keywords += len(naming.token_ids)
    return {"mean": percent(hits, keywords), "any": percent(found, len(namings))}


def hit_rate_by_slot(
    namings: Sequence[Naming], neighbours: Neighbours, without: frozenset[str] = frozenset()
) -> list[float]:
    """Measure the hit rate of each slot, percent, where all recordings have as many keywords."""
    slots = len(namings[0].token_ids)
    by_slot = ([replace(n, token_ids=(n.token_ids[k],)) for n in namings] for k in range(slots))
    return [hit_rate(group, neighbours, without)["mean"] for group in by_slot]


def chance_hit_rate(
    namings: Sequence[Naming], vocabulary: Iterable[int], without: frozenset[str] = frozenset()
) -> float:
    """Return the hit rate that random neighbours have on average, percent.

    For each keyword `NEIGHBOURS` different tokens are drawn from the V of the vocabulary without
    special tokens, of which g are in the caption: all miss with probability C(V - g, n) / C(V, n).
    """
    known = frozenset(vocabulary)
    size, drawn = len(known), min(NEIGHBOURS, len(known))
    total = sum(len(n.token_ids) for n in namings)
    expected = 0.0
    for naming in namings:
        right = len(known & read_caption(naming.caption, without).tokens)
        missed = math.comb(size - right, drawn) / math.comb(size, drawn)
        expected += len(naming.token_ids) * (1.0 - missed)
    return 100.0 * expected / total if total else 0.0


def shuffled_hit_rate(
    namings: Sequence[Naming], neighbours: Neighbours, without: frozenset[str] = frozenset()
) -> float:
    """Return the hit rate of the same keywords against captions drawn at random, percent, exactly.

    A model that names frequent tokens whatever is said has no higher hit rate than this.
    """
    captions = [read_caption(n.caption, without).tokens for n in namings]
    holding: dict[int, set[int]] = {}
    for place, tokens in enumerate(captions):
        for token in tokens:
            holding.setdefault(token, set()).add(place)
    keywords = Counter(i for n in namings for i in n.token_ids)
    hits = 0
    for token, count in keywords.items():
        hit = set().union(*(holding.get(near, ()) for near in neighbours[token]))
        hits += count * len(hit)
    return percent(hits, keywords.total() * len(captions))


def naming_scores(
    namings: Sequence[Naming], without: frozenset[str] = frozenset()
) -> dict[str, dict[str, float]]:
    """Score each recording's distinct words and tokens against those of its caption.

    A keyword's word is `word_of` its token; keywords that name no word, and those that name a word
    that does not count, are left out.

    Returns:
        Of `words` and of `tokens`: `precision`, `recall`, `f1` in percent, counted over all
        recordings together.
    """
    captions = [read_caption(n.caption, without) for n in namings]
    tokens = [set(n.token_ids) for n in namings]
    words = [{word_of(token) for token in named} - {None, *without} for named in tokens]
    return {
        "words": _overlap(words, [caption.words for caption in captions]),
        "tokens": _overlap(tokens, [caption.tokens for caption in captions]),
    }


def keyword_counts(namings: Sequence[Naming]) -> dict[str, float]:
    """Count keywords, words and repetitions.

    Returns:
        `keywords` and `words`, means per recording; `keywords_per_word`, over all together;
        `difference`, mean of |keywords - words|; `correlation` of the two counts over recordings
        (Pearson), 0 where either is constant; `duplicates`, percent of keywords that repeat an
        earlier one of their recording; `distinct`, different tokens over all recordings;
        `most_frequent`, percent of keywords that are the most frequent token.
    """
    keywords = [len(n.token_ids) for n in namings]
    words = [len(words_of(n.caption)) for n in namings]
    repeated = sum(len(n.token_ids) - len(set(n.token_ids)) for n in namings)
    tokens = Counter(i for n in namings for i in n.token_ids)
    count = len(namings)
    return {
        "keywords": sum(keywords) / count,
        "words": sum(words) / count,
        "keywords_per_word": sum(keywords) / max(1, sum(words)),
        "difference": sum(abs(k - w) for k, w in zip(keywords, words, strict=True)) / count,
        "correlation": _correlation(keywords, words),
        "duplicates": percent(repeated, sum(keywords)),
        "distinct": float(len(tokens)),
        "most_frequent": percent(max(tokens.values(), default=0), sum(keywords)),
    }


def _overlap(predicted: Sequence[Set], right: Sequence[Set]) -> dict[str, float]:
    shared = sum(len(p & r) for p, r in zip(predicted, right, strict=True))
    return agreement(shared, *(sum(map(len, sets)) for sets in (predicted, right)))


def agreement(shared: int, named: int, wanted: int) -> dict[str, float]:
    """Return `precision`, `recall` and `f1` in percent of counts: right, named, to be named."""
    return {
        "precision": percent(shared, named),
        "recall": percent(shared, wanted),
        "f1": percent(2 * shared, named + wanted),
    }


def _correlation(a: Sequence[int], b: Sequence[int]) -> float:
    try:
        return statistics.correlation(a, b)
    except statistics.StatisticsError:  # one recording, or constant counts
        return 0.0


def percent(part: int, whole: int) -> float:
    """Return a share in percent; 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0
