"""Which keyword does a model give each spoken word, and where do words begin?"""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_speechclip.data.manifest import Manifest, Word, read_word_times
from s3prl_speechclip.encoders.vocabulary import decode, encode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.model.config import find_variant
from s3prl_speechclip.structures import TaskResult

from .formulas.keyword_scores import word_of
from .formulas.segments import boundary_scores_by_tolerance
from .formulas.word_scores import (
    FEWEST,
    PATTERNS,
    RELATED,
    label_by_attention,
    label_by_span,
    patterns,
    recognise,
    recognition,
    shuffled,
    spoken_word,
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
from .shared.decoding import (
    FRAME,
    Decoded,
    decode_split,
    embed_texts,
    require_keywords,
)

if TYPE_CHECKING:
    from s3prl_speechclip.model.speechclip import SpeechClip

logger = logging.getLogger(__name__)

ALIGNMENTS = (
    '{"data": [{"caption": {"wav": "PATH.wav"}, "text_alignment": "START__WORD__END ..."}]}, as '
    "SpokenCOCO_*_unrolled_karpathy_with_alignments.json"
)
CHUNK = 256  # words compared with the vocabulary at once
LEAST_RELATED = 10  # words that count as related to a word at least
SHUFFLED = "shuffled"

PROTOCOL = {
    "label": "CIF: the keyword whose span shares the most time with the word; CLS tokens: the "
    "keyword that pays the word's frames the most attention, heads averaged",
    "recognition": f"k / N, the share of a word's occurrences with its most frequent label, of "
    f"words that occur {FEWEST} times or more in English recordings with word times",
    SHUFFLED: "floor: the same labels, dealt to the occurrences of words at random",
    "perfect match": "the label is the word, but for s or es, or one of the word's own tokens "
    "where it has several",
    "default token": "else, the label of at least a tenth of the words and of 3",
    "semantically related": "else, the label is among the 1 % of the vocabulary's whole words (10 "
    "at least) nearest to the word by cosine of CLIP's text embeddings",
    "bucketing": "else, another word has the same label",
    "unexpected": "else",
    "segmentation": "boundaries strictly inside the utterance, matched one to one within the "
    "tolerance; spans of the keywords by the name of their segments; attention: frames at or "
    "above the 0.9 quantile of a head's CLS attention, as VG-HuBERT (arXiv 2203.15081), the "
    "parallel branch's token where there is one; uniform: as many equal parts as the utterance has "
    "words",
    "precision": "fp32",
}
SHOWN_PATTERNS = (
    "perfect match",
    "semantically related",
    "bucketing",
    "default token",
    "unexpected",
)
SEGMENTS = {
    "attention": "CLS attention",
    "cif": "CIF",
    "times": "word times",
    "mincut": "minimum cut",
    "windows": "windows",
}
"""Titles of the sources of keywords' segments, by their names in results."""
BOUNDARIES = {"P 50 ms": "precision", "R 50 ms": "recall", "F1 50 ms": "f1", "R-value": "r_value"}


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)
    p.add_argument(
        "--alignments",
        type=Path,
        metavar="FILE",
        help="JSON of word times as published for SpokenCOCO (default: the corpus' own)",
    )


def run(args: Namespace) -> Measured:
    """Measure how consistently a model labels spoken words, and what the labels name.

    Raises:
        ConfigError: the model has no cascaded branch.
        CorpusError: a split has no word times, or no word occurs often enough.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    trial = Trial(args)
    require_keywords(trial.model)
    if args.alignments is not None:
        trial.manifest = with_alignments(trial.manifest, Path(args.alignments))
    for split in trial.splits:
        if not any(u.words and u.spoken_language == "en" for u in trial.manifest.split(split)):
            raise CorpusError(
                f"no English recording of split '{split}' of {trial.manifest.corpus} has word "
                "times: flickr8k reads flickr_8k.ctm beside its recordings, spokencoco needs "
                "--alignments FILE"
            )
    segments = segments_of(trial.model)
    metrics = {}
    for split in trial.splits:
        decoded = decode_split(trial, split, attention=True)
        metrics[split] = split_metrics(trial.model, decoded, split, segments)
    return Measured(trial.record("words", metrics, {**PROTOCOL, "segments": segments}))


def segments_of(model: SpeechClip) -> str:
    """Return what gives a model's keywords their segments, one of `SEGMENTS`."""
    keywords = find_variant(model.config.variant).keywords
    if keywords == "words":
        return model.config.words.at_inference
    return "attention" if keywords == "cls" else str(keywords)


def split_metrics(
    model: SpeechClip, decoded: Sequence[Decoded], split: str, segments: str
) -> dict[str, Any]:
    """Compute the metrics of a split, decoded with attention.

    Args:
        model: provides CLIP's text encoder.
        decoded: recordings of the split.
        split: name of the split.
        segments: one of `SEGMENTS`.

    Raises:
        CorpusError: no word occurs often enough.
    """
    timed = [one for one in decoded if one.utterance.words and one.language == "en"]
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
        "recordings_without_times": len(decoded) - len(timed),
        "occurrences": sum(map(len, labels.values())),
        "distinct_words": len(labels),
        "words": len(words),
        **rounded(recognition(words)),
        SHUFFLED: rounded(recognition(recognise(shuffled(labels)))),
        "labels": len({one.label for one in words}),
        "patterns": {name: round(100.0 * counts[name] / len(words), 4) for name in PATTERNS},
        "by_word": [
            {
                "word": one.word,
                "count": one.count,
                "label": "" if one.label is None else decode([one.label]),
                "hits": one.hits,
                "score": round(one.score, 4),
                "pattern": pattern,
            }
            for one, pattern in zip(words, found, strict=True)
        ],
        "segmentation": segmentation_metrics(timed, segments),
    }


def collect_labels(decoded: Sequence[Decoded]) -> dict[str, list[int | None]]:
    """Label each occurrence of each word; words in order of first occurrence."""
    labels: dict[str, list[int | None]] = {}
    for one in decoded:
        for word in one.utterance.words:
            if one.attention is not None:
                label = label_by_attention(word, one.attention, one.token_ids, FRAME)
            else:
                label = label_by_span(word, one.spans, one.token_ids)
            labels.setdefault(spoken_word(word), []).append(label)
    labels.pop("", None)  # punctuation
    return labels


def related_tokens(model: SpeechClip, words: Sequence[str]) -> dict[str, frozenset[int]]:
    """Return the tokens semantically related to each word; see `word_scores`.

    Words that a small CLIP's table cannot spell have none.
    """
    spelt = frozenset(model.clip.vocabulary.tolist())
    readable = [w for w in words if model.clip.whole_table or spelt.issuperset(encode(w))]
    known = {
        text: token
        for token in model.clip.vocabulary.tolist()
        if (text := word_of(token)) is not None and encode(text) == [token]
    }
    texts = list(known)
    vocabulary = embed_texts(model, texts)
    nearest = min(len(texts), max(LEAST_RELATED, round(RELATED * len(texts))))
    found: dict[str, frozenset[int]] = dict.fromkeys(words, frozenset())
    for start in range(0, len(readable), CHUNK):
        chunk = readable[start : start + CHUNK]
        rows = (embed_texts(model, chunk) @ vocabulary.T).topk(nearest).indices.tolist()
        for word, near in zip(chunk, rows, strict=True):
            found[word] = frozenset(known[texts[place]] for place in near)
    return found


def segmentation_metrics(decoded: Sequence[Decoded], segments: str) -> dict[str, Any]:
    """Score each automatic segmentation's boundaries against those of words, by tolerance."""
    ways = {
        "attention": [one.segmented(one.attended) for one in decoded if one.attended],
        "uniform": [one.segmented(_equal_parts(one)) for one in decoded],
    }
    if spans := [one.segmented() for one in decoded if one.spans]:
        ways = {segments: spans} | ways
    return {way: boundary_scores_by_tolerance(found) for way, found in ways.items() if found}


def _equal_parts(one: Decoded) -> list[tuple[float, float]]:
    count = len(one.utterance.words)
    part = one.duration / count
    return [(k * part, (k + 1) * part) for k in range(count)]


def with_alignments(manifest: Manifest, path: Path) -> Manifest:
    """Return a corpus with the word times of a file, and a note that counts its recordings there.

    Args:
        manifest: the corpus; recordings that the file does not align keep their word times.
        path: JSON in the form of SpokenCOCO's alignments, times in seconds, recordings known by
            the names of their files.

    Raises:
        CorpusError: the file is missing, of another form, or aligns no recording of the corpus.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["data"]
        aligned = {Path(row["caption"]["wav"]).stem: _words(row) for row in rows}
    except OSError as error:
        raise CorpusError(f"cannot read the alignments '{path}': {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorpusError(
            f"'{path}' holds no alignments ({error}); expected {ALIGNMENTS}"
        ) from error
    files = {u.audio: Path(u.audio).stem for u in manifest.utterances}
    shared = [stem for stem, count in Counter(files.values()).items() if count > 1]
    if ambiguous := aligned.keys() & set(shared):
        raise CorpusError(
            f"'{path}' aligns '{min(ambiguous)}', the name of several files of {manifest.corpus}; "
            "word times can stand in the manifest of own data instead"
        )
    words = [aligned.get(files[u.audio]) for u in manifest.utterances]
    found = sum(map(bool, words))
    if not found:
        raise CorpusError(
            f"'{path}' aligns {len(aligned)} recordings, none of them of {manifest.corpus}; give "
            "the alignments of this corpus"
        )
    both = zip(manifest.utterances, words, strict=True)
    utterances = tuple(replace(u, words=new or u.words) for u, new in both)
    note = f"word times of {found} of {len(utterances)} recordings from {path.name}"
    logger.info("%s", note)
    return replace(manifest, utterances=utterances, notes=(*manifest.notes, note))


def _words(row: dict[str, Any]) -> tuple[Word, ...]:
    tokens = [token.split("__") for token in row.get("text_alignment", "").split()]
    # A pause has no word between its times.
    spoken = [(f[1].lower(), f[0], f[2]) for f in tokens if len(f) == 3 and f[1]]
    try:
        return read_word_times(spoken)
    except ValueError as error:
        raise ValueError(f"{row['caption']['wav']}: {error}") from None


def table(result: TaskResult) -> str:
    """Lay a result out, a row for each segmentation."""
    head = (
        "split",
        "words",
        "recognition",
        SHUFFLED,
        ">= 75 %",
        *SHOWN_PATTERNS,
        "boundaries",
        *BOUNDARIES,
    )
    rows = []
    for split, metrics in result.metrics.items():
        figures = (
            metrics["recognition"],
            metrics[SHUFFLED]["recognition"],
            metrics["recognised_well"],
            *(metrics["patterns"][pattern] for pattern in SHOWN_PATTERNS),
        )
        first = (split, f"{metrics['words']:,}", *(f"{figure:.1f}" for figure in figures))
        for way, scores in metrics["segmentation"].items():
            found = [scores["50ms"][name] for name in BOUNDARIES.values()]
            rows.append((*first, way, *(f"{figure:.1f}" for figure in found)))
    about = f"keywords by {SEGMENTS[result.protocol['segments']]}"
    return titled_table(result, "words in percent", head, rows, about)


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    segments = result.protocol["segments"]
    keys: dict[str, tuple[str, ...]] = {
        **{name: (name,) for name in ("recognition", "recognised_well")},
        SHUFFLED: (SHUFFLED, "recognition"),
        **{pattern: ("patterns", pattern) for pattern in SHOWN_PATTERNS},
        **{name: ("segmentation", segments, "50ms", name) for name in ("f1", "r_value")},
    }
    for split in result.metrics:
        for column, place in keys.items():
            yield Figure(
                column=column, keys=(split, *place), split=split, detail=SEGMENTS[segments]
            )


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    section=Section(
        name="words",
        title="Word discovery",
        about="Every spoken word is labelled with a keyword. Recognition: share of a word's "
        "occurrences that have its most frequent label, mean over words that occur 10 times or "
        "more, the same with labels shuffled among all occurrences, and percent of those words at "
        "75 % or more; then percent of words by what their label is; "
        "boundaries of the keywords' segments against those of words, within 50 ms. Named beside a "
        "system is what gives its keywords their segments.",
        columns=(
            Column(name="recognition"),
            Column(name=SHUFFLED, title="recognition, shuffled", merit=False),
            Column(name="recognised_well", title="at 75 %"),
            *(Column(name=pattern) for pattern in SHOWN_PATTERNS),
            Column(name="f1", title="boundary F1"),
            Column(name="r_value", title="R-value"),
        ),
        rank_by="recognition",
        figures=board_figures,
    ),
)
