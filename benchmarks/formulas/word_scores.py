"""Which label a model gives to spoken words: pure functions over counted labels.

As in word discovery with Cascaded SpeechCLIP: a word's recognition score is the share k / N of its
N occurrences that carry its most frequent label. How that label relates to the word is one of five
patterns, in this order of precedence (the rules are this project's own):

- perfect match: the label is the word, but for a plural's s or es, or one of the word's own BPE
  tokens where it has several;
- default token: the label is the most frequent one of at least `DEFAULT_SHARE` of all words, and of
  at least `DEFAULT_WORDS`;
- semantically related: of all whole words in the vocabulary, the label is among the share `RELATED`
  nearest to the word by cosine of CLIP's text embeddings;
- bucketing: at least one other word has the same most frequent label;
- unexpected: none of these. A word that mostly has no label is unexpected too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3prl_speechclip.data.manifest import Word
from s3prl_speechclip.encoders.vocabulary import encode

from .keyword_scores import word_of, words_of
from .segments import Span, overlap

FEWEST = 10  # occurrences of a word that is scored
WELL = 75.0  # percent; words recognised at least so well are counted
DEFAULT_SHARE = 0.1  # of words
DEFAULT_WORDS = 3
RELATED = 0.01  # of the vocabulary's whole words
PATTERNS = ("perfect match", "default token", "semantically related", "bucketing", "unexpected")


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A word and its most frequent label."""

    word: str
    count: int
    """N, occurrences."""
    label: int | None
    """Original BPE id; None where occurrences mostly have no label."""
    hits: int
    """k, occurrences with that label."""

    @property
    def score(self) -> float:
        """Return the recognition score, percent."""
        return 100.0 * self.hits / self.count


def spoken_word(word: Word) -> str:
    """Return an aligned word as it is counted: lower case, without punctuation."""
    return " ".join(words_of(word.text))


def label_by_span(word: Word, spans: Sequence[Span], token_ids: Sequence[int]) -> int | None:
    """Label a word by the keyword whose span shares the most time with it; None if none does."""
    shared = [overlap(span, word) for span in spans]
    return token_ids[int(np.argmax(shared))] if any(shared) else None


def label_by_attention(
    word: Word, attention: np.ndarray, token_ids: Sequence[int], frame: float
) -> int | None:
    """Label a word by the keyword with the highest mean attention over the word's frames.

    Args:
        word: the word, with its times.
        attention: (K, frames), of each keyword to each frame.
        token_ids: of the keywords.
        frame: seconds of a frame; the word's own are those whose centre it covers.

    Returns:
        The keyword's token; None where the word covers no centre.
    """
    centres = (np.arange(attention.shape[1]) + 0.5) * frame
    inside = (word.start <= centres) & (centres < word.end)
    if not inside.any():
        return None
    return token_ids[int(attention[:, inside].mean(1).argmax())]


def recognise(labels: Mapping[str, Sequence[int | None]]) -> list[Recognised]:
    """Find the most frequent label of each word that occurs `FEWEST` times or more.

    Args:
        labels: label of each occurrence, by word; the first of equally frequent ones counts. None
            is no label: such an occurrence is never a hit.

    Returns:
        Words from the most to the least frequent.
    """
    found = []
    for word, given in labels.items():
        if len(given) >= FEWEST:
            counts: Counter[int | None] = Counter(x for x in given if x is not None)
            label, hits = (counts.most_common(1) or [(None, 0)])[0]
            found.append(Recognised(word=word, count=len(given), label=label, hits=hits))
    return sorted(found, key=lambda one: (-one.count, one.word))


def recognition(words: Sequence[Recognised]) -> dict[str, float]:
    """Return the mean recognition score of words, and the share recognised well, percent."""
    well = sum(one.score >= WELL for one in words)
    return {
        "recognition": sum(one.score for one in words) / len(words),
        "recognised_well": 100.0 * well / len(words),
    }


def shuffled(labels: Mapping[str, Sequence[int | None]]) -> dict[str, list[int | None]]:
    """Return the same labels dealt to the occurrences of words at random, with seed 0.

    A model that labels whatever is said with the same few tokens is recognised no better.
    """
    given = [label for occurrences in labels.values() for label in occurrences]
    order = iter(np.random.default_rng(0).permutation(len(given)).tolist())
    return {word: [given[next(order)] for _ in own] for word, own in labels.items()}


def patterns(words: Sequence[Recognised], related: Mapping[str, frozenset[int]]) -> list[str]:
    """Return the pattern of each word, by the rules of the module's docstring.

    Args:
        words: recognised.
        related: the tokens that are semantically related to each word.
    """
    served = Counter(one.label for one in words)
    many = max(DEFAULT_WORDS, DEFAULT_SHARE * len(words))
    found = []
    for one in words:
        if one.label is None:
            found.append("unexpected")
        elif _same(one.word, one.label):
            found.append("perfect match")
        elif served[one.label] >= many:
            found.append("default token")
        elif one.label in related[one.word]:
            found.append("semantically related")
        elif served[one.label] > 1:
            found.append("bucketing")
        else:
            found.append("unexpected")
    return found


def _same(word: str, label: int) -> bool:
    text = word_of(label)
    if text is not None and any(
        f"{a}{end}" == b for a, b in ((word, text), (text, word)) for end in ("", "s", "es")
    ):
        return True
    tokens = encode(word)
    return len(tokens) > 1 and label in tokens
