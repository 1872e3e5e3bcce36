"""How well a sequence of tokens transcribes or translates speech: pure functions over tokens.

Both sides are read alike: tokens without a letter or digit are left out, and a run of one token is
merged to one, since several segments of one word give its token several times. Words are those of
the tokens' text, in lower case, without punctuation; content words are those but stop words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from s3prl_speechclip.encoders.vocabulary import decode

from .keyword_scores import WORD, agreement, percent, stop_words, words_of

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

SMOOTHING = "exp"  # sacrebleu's default
RESAMPLES = 1000  # of the pictures


def scored_tokens(token_ids: Iterable[int]) -> tuple[int, ...]:
    """Return the tokens that are scored, original BPE ids in order, runs of one token merged."""
    return tuple(token for token, _ in groupby(filter(_has_letters, map(int, token_ids))))


@cache
def _has_letters(token_id: int) -> bool:
    return WORD.search(decode([token_id])) is not None


def count(hypothesis: Sequence[int], reference: Sequence[int]) -> np.ndarray:
    """Count what the scores of one recording are made of.

    Args:
        hypothesis, reference: of `scored_tokens`.

    Returns:
        (18,) int64. Of tokens: edits, number in the hypothesis, in the reference. Of words: edits,
        number in the reference. Of distinct content words: shared, in the hypothesis, in the
        reference. Of BLEU, up to four words: matching n-grams, those of the hypothesis, words of
        the hypothesis, of the reference. Counts of recordings add up.
    """
    import editdistance

    said, right = (words_of(decode(tokens)) for tokens in (hypothesis, reference))
    named, wanted = set(said) - stop_words(), set(right) - stop_words()
    bleu = _bleu().sentence_score(" ".join(said), [" ".join(right)])
    return np.array(
        [
            *(editdistance.eval(hypothesis, reference), len(hypothesis), len(reference)),
            *(editdistance.eval(said, right), len(right)),
            *(len(named & wanted), len(named), len(wanted)),
            *(*bleu.counts, *bleu.totals, bleu.sys_len, bleu.ref_len),
        ]
    )


def scores(counts: np.ndarray) -> dict[str, float]:
    """Return the scores of counts, summed over recordings, (18,).

    Returns:
        Percent: `token_error` and `word_error`, edits per token and word of the reference;
        `precision`, `recall`, `f1` of content words; `bleu`. `length`: tokens of the hypothesis per
        token of the reference.
    """
    edits, said, right, word_edits, words, shared, named, wanted, *bleu = map(int, counts)
    matches, totals, (words_said, words_right) = bleu[:4], bleu[4:8], bleu[8:]
    scored = _bleu().compute_bleu(
        matches, totals, words_said, words_right, smooth_method=SMOOTHING, effective_order=True
    )
    return {
        "token_error": percent(edits, right),
        "word_error": percent(word_edits, words),
        **agreement(shared, named, wanted),
        "bleu": scored.score,
        "length": said / right if right else 0.0,
    }


def score_intervals(counts: np.ndarray, groups: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score, by resampling groups of recordings.

    A bootstrap as of Bisani and Ney (ICASSP 2004). What is said of one picture is alike, so that
    pictures are drawn, not recordings.

    Args:
        counts: (N, 18), of recordings.
        groups: picture of each recording, N.
    """
    _, places = np.unique(groups, return_inverse=True)
    total = places.max() + 1
    by_group = np.zeros((total, counts.shape[1]), np.int64)
    np.add.at(by_group, places, counts)
    random = np.random.default_rng(0)
    drawn = random.multinomial(total, np.full(total, 1.0 / total), RESAMPLES) @ by_group
    found = [scores(one) for one in drawn]
    return {
        name: tuple(np.quantile([one[name] for one in found], (0.025, 0.975)).tolist())
        for name in found[0]
    }


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    # Words are already separated. Some captions, and all of some languages, have fewer than four.
    return BLEU(tokenize="none", smooth_method=SMOOTHING, effective_order=True)


def bleu_signature() -> str:
    """Return sacrebleu's description of BLEU as computed; something must have been counted."""
    return str(_bleu().get_signature())


def other_texts(texts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Draw for each text another one of them that differs from it, with seed 0.

    Returns:
        As many texts; none where all are alike.
    """
    distinct = sorted(set(texts))
    if len(distinct) < 2:
        return []
    place = {text: number for number, text in enumerate(distinct)}
    shifts = np.random.default_rng(0).integers(1, len(distinct), len(texts)).tolist()
    both = zip(texts, shifts, strict=True)
    return [distinct[(place[text] + shift) % len(distinct)] for text, shift in both]


def frequent_tokens(texts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the most frequent tokens of texts, as many as a text has on average."""
    counts = Counter(token for text in texts for token in text)
    mean = round(counts.total() / max(1, len(texts)))
    return tuple(sorted(counts, key=lambda token: (-counts[token], token))[:mean])
