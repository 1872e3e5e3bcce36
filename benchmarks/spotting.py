"""Does a written word, or a picture, find the recordings that say it, and where?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, encode
from s3prl_speechclip.errors import ConfigError, CorpusError, ResultError
from s3prl_speechclip.options import add_option
from s3prl_speechclip.structures import TaskResult

from .formulas.keyword_scores import read_caption, stop_words
from .formulas.segments import Span
from .formulas.spotting_scores import (
    actual_localisation,
    chance_detection,
    detection_scores,
    middle,
    oracle_localisation,
    share_of_time,
    within,
)
from .formulas.word_scores import spoken_word
from .shared.benchmark import (
    Benchmark,
    Measured,
    Trial,
    add_corpus_options,
    add_model_options,
    rounded,
    titled_table,
)
from .shared.board import CHANCE, Column, Figure, Section
from .shared.decoding import FRAME, Decoded, decode_split, embed_texts, evenly

if TYPE_CHECKING:
    from torch import Tensor

    from s3prl_speechclip.model.speechclip import SpeechClip

FEWEST = 10  # recordings that a query must have as right answers
PICTURES = 5  # of a word that query at most
KEYWORDS, CAPTIONS = "keywords", "captions"
WAYS = ("parallel", "cascaded", "sum", KEYWORDS)
"""The scores that rank recordings."""
FOUND = ("P@10", "P@N", "EER")

PROTOCOL = {
    "words": "queries: the words of captions that are no stop words (PostgreSQL's english.stop), "
    "are one token of CLIP's in the model's vocabulary, and occur in the captions of enough "
    "recordings, not of all; right: recordings whose caption has the word",
    "parallel, cascaded, sum": "cosine of the recording's embedding with CLIP's text embedding of "
    "the plain word, without a prompt",
    "keywords": "highest cosine of a keyword before quantisation with the word's token embedding",
    "captions": "each recording's written caption in its place, by CLIP's text encoder",
    "pictures": f"queries: up to {PICTURES} pictures a word, spread evenly over those whose "
    "captions have it, by the image embedding; the picture's own recordings are left out; right: "
    "recordings whose caption has the word",
    "P@10, P@N, EER": "percent, mean over queries; N: number of right recordings; ties pessimistic",
    "by_word": "P@N of each word",
    "localisation": "position: of the keyword with that highest cosine, the middle of its CIF span "
    "or the frame that its CLS token attends to most, heads averaged; correct: within the word's "
    "times, no tolerance; English recordings with word times; mean over words",
    "oracle": "percent correct of the recordings that say the word (arXiv 2202.01107)",
    "actual": "percent of a query's best 10, or N, recordings that say the word and have it at the "
    "predicted position; with as many found as right, precision, recall and F1 are one figure",
    "chance": "a random order, and for localisation a random position: expectation, exact; "
    "any_keyword: position of a keyword at random",
    "recordings": "those in English; the others, with the word in English, by language",
    "precision": "fp32",
}


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_model_options(p)
    add_corpus_options(p, states=True)
    add_option(
        p,
        "--fewest N",
        "recordings whose captions have a word, for it to be a query (default: %(default)s)",
        default=FEWEST,
    )


def run(args: Namespace) -> Measured:
    """Measure how well words and pictures rank the recordings that say a word, and find it there.

    Raises:
        ConfigError: `--fewest` is below 1.
        CorpusError: no word of a split occurs often enough.
        AudioError, ImageError: a recording or an image cannot be read.
        ResultError: an embedding is not a number.
    """
    if args.fewest < 1:
        raise ConfigError(f"--fewest is {args.fewest}; give 1 or more")
    trial = Trial(args)
    model = trial.model

    from s3prl_speechclip.model.embedding import embed_images

    metrics = {}
    for split in trial.splits:
        data = trial.retrieval_set(split)
        pictures = dict(zip(data.image_ids.tolist(), embed_images(model, data), strict=True))
        everything = len(trial.manifest.split(split))
        decoded = decode_split(trial, split, attention=True, vectors=everything)
        metrics[split] = split_metrics(model, decoded, pictures, split, args.fewest)
    return Measured(trial.record("spotting", metrics, {**PROTOCOL, "fewest": args.fewest}))


def split_metrics(
    model: SpeechClip,
    decoded: Sequence[Decoded],
    pictures: Mapping[int, Tensor],
    split: str,
    fewest: int = FEWEST,
) -> dict[str, Any]:
    """Compute the metrics of a split, decoded with attention and all keyword vectors.

    Args:
        model: provides CLIP's text encoder and token embeddings.
        decoded: recordings of the split.
        pictures: image embeddings by `pair_id`, (E,) unit vectors.
        split: name of the split.
        fewest: recordings that a query must have as right answers.

    Raises:
        CorpusError: no word occurs often enough in English recordings.
        ResultError: an embedding is not a number.
    """
    by_language: dict[str, list[Decoded]] = {}
    for one in decoded:
        if one.caption:
            by_language.setdefault(one.language, []).append(one)
    english = by_language.pop("en", [])
    words = query_words(model, english, fewest)
    if not words:
        raise CorpusError(
            f"no content word is in the captions of {fewest} English recordings of split "
            f"'{split}' and not of all; choose another corpus or split, or lower --fewest"
        )
    right = has_word(english, words)
    scores = word_scores(model, english, words)
    texts = embed_texts(model, words), embed_texts(model, [one.caption for one in english])
    written = {CAPTIONS: (texts[0] @ texts[1].T).numpy()}
    found: dict[str, Any] = {
        "recordings": len(english),
        "words": {"queries": len(words), **_detection(scores | written, right)},
        "pictures": picture_metrics(english, right, pictures, fewest),
        "by_word": {
            word: {"recordings": int(rows.sum()), **_one_word(scores, right, query)}
            for query, (word, rows) in enumerate(zip(words, right, strict=True))
        },
    }
    if KEYWORDS in scores and any(one.utterance.words for one in english):
        found["localisation"] = localisation_metrics(model, english, words, scores, fewest)
    languages = {}
    for language, group in sorted(by_language.items()):
        if known := query_words(model, group, fewest):
            scores = word_scores(model, group, known)
            about = {"recordings": len(group), "queries": len(known)}
            languages[language] = about | _detection(scores, has_word(group, known))
    if languages:
        found["by_language"] = languages
    return found


def query_words(model: SpeechClip, decoded: Sequence[Decoded], fewest: int) -> list[str]:
    """Return the words that are queries, by the rule of `PROTOCOL`, in alphabetical order."""
    vocabulary = frozenset(model.clip.vocabulary.tolist()) - frozenset(SPECIAL_TOKENS)
    counts = Counter(word for one in decoded for word in _content(one))
    often = sorted(word for word, count in counts.items() if fewest <= count < len(decoded))
    return [
        word for word in often if len(encode(word)) == 1 and vocabulary.issuperset(encode(word))
    ]


def has_word(decoded: Sequence[Decoded], words: Sequence[str]) -> np.ndarray:
    """Return whether the caption of each of N recordings has each of Q words, (Q, N) bool."""
    return np.array([[word in _content(one) for one in decoded] for word in words])


def _content(one: Decoded) -> frozenset[str]:
    return read_caption(one.caption, stop_words()).words


def word_scores(
    model: SpeechClip, decoded: Sequence[Decoded], words: Sequence[str]
) -> dict[str, np.ndarray]:
    """Score N recordings for Q written words, (Q, N) by `WAYS`, as the model has them."""
    queries = embed_texts(model, words)
    scores = {name: (queries @ rows.T).numpy() for name, rows in _embeddings(decoded).items()}
    if model.branch.head is not None:
        cosines = [keyword_cosines(model, one, words) for one in decoded]
        # A recording in which CIF fires no keyword comes last.
        best = [c.max(1) if c.size else np.full(len(words), -1.0) for c in cosines]
        scores[KEYWORDS] = np.stack(best, axis=1)
    return scores


def _embeddings(decoded: Sequence[Decoded]) -> dict[str, Tensor]:
    import torch

    from .formulas.retrieval_scores import named_embeddings

    by_name = {
        name: torch.stack([one.embeddings[name] for one in decoded])
        for name in decoded[0].embeddings
    }
    for name, rows in by_name.items():
        if not bool(rows.isfinite().all()):
            raise ResultError(f"{name} embeddings are not numbers; the checkpoint is broken")
    return named_embeddings(by_name)


def keyword_cosines(model: SpeechClip, one: Decoded, words: Sequence[str]) -> np.ndarray:
    """Return the cosines of Q words' token embeddings with K keywords, (Q, K)."""
    import torch
    from torch.nn import functional as F

    row = {token: place for place, token in enumerate(model.clip.vocabulary.tolist())}
    rows = [row[token] for word in words for token in encode(word)]
    tokens = F.normalize(model.clip.codebook().detach()[rows].float().cpu(), dim=-1)
    assert one.queries is not None
    keywords = F.normalize(torch.from_numpy(one.queries), dim=-1)
    return np.asarray((tokens @ keywords.T).numpy())


def _detection(scores: Mapping[str, np.ndarray], right: np.ndarray) -> dict[str, Any]:
    found = {
        way: rounded(detection_scores(zip(rows, right, strict=True)))
        for way, rows in scores.items()
    }
    return found | {CHANCE: rounded(chance_detection(right))}


def _one_word(scores: Mapping[str, np.ndarray], right: np.ndarray, query: int) -> dict[str, float]:
    chosen = [(way, [(rows[query], right[query])]) for way, rows in scores.items()]
    return {way: round(detection_scores(one)["P@N"], 4) for way, one in chosen}


def picture_metrics(
    decoded: Sequence[Decoded], right: np.ndarray, pictures: Mapping[int, Tensor], fewest: int
) -> dict[str, Any]:
    """Measure how well pictures of a word rank the recordings of other pictures.

    Args:
        decoded: N recordings.
        right: (Q, N) bool, whether each says each word.
        pictures: image embeddings by `pair_id`, (E,) unit vectors.
        fewest: right recordings that a query must have, without the picture's own.
    """
    pair_ids = np.array([one.utterance.pair_id for one in decoded])
    queries: list[tuple[int, np.ndarray, np.ndarray]] = []
    for row in right:
        shown = np.unique(pair_ids[row])
        for picture in shown[sorted(evenly(len(shown), PICTURES))].tolist():
            others = pair_ids != picture
            if fewest <= row[others].sum() < others.sum():
                queries.append((picture, others, row[others]))
    if not queries:
        return {"queries": 0}
    found: dict[str, Any] = {"queries": len(queries)}
    for name, rows in _embeddings(decoded).items():
        ranked = [((rows @ pictures[p]).numpy()[others], said) for p, others, said in queries]
        found[name] = rounded(detection_scores(ranked))
    return found | {CHANCE: rounded(chance_detection([said for *_, said in queries]))}


def localisation_metrics(
    model: SpeechClip,
    decoded: Sequence[Decoded],
    words: Sequence[str],
    scores: Mapping[str, np.ndarray],
    fewest: int,
) -> dict[str, Any]:
    """Measure whether the keyword that is nearest to a word lies where the word is spoken.

    Args:
        model: provides the token embeddings.
        decoded: N recordings; those without word times are left out.
        words: Q queries; those that fewer than `fewest` of the others say are left out.
        scores: (Q, N) by `WAYS`.
        fewest: recordings that must say a word.
    """
    timed = [place for place, one in enumerate(decoded) if one.utterance.words]
    shape = len(words), len(timed)
    correct, spoken = np.zeros(shape, bool), np.zeros(shape, bool)
    by_chance, any_keyword = np.zeros(shape), np.zeros(shape)
    for column, place in enumerate(timed):
        one = decoded[place]
        positions = keyword_positions(one)
        nearest = keyword_cosines(model, one, words).argmax(1) if positions else None
        for query, times in enumerate(word_times(one, words)):
            spoken[query, column] = bool(times)
            by_chance[query, column] = share_of_time(times, one.duration)
            inside = [within(position, times) for position in positions]
            if nearest is not None:
                correct[query, column] = inside[nearest[query]]
                any_keyword[query, column] = np.mean(inside)
    asked = spoken.sum(1) >= fewest
    found: dict[str, Any] = {"recordings": len(timed), "queries": int(asked.sum())}
    if not asked.any():
        return found
    correct, spoken = correct[asked], spoken[asked]
    found["oracle"] = round(oracle_localisation(correct, spoken), 4)
    found["oracle_any_keyword"] = round(oracle_localisation(any_keyword[asked], spoken), 4)
    found["oracle_chance"] = round(oracle_localisation(by_chance[asked], spoken), 4)
    by_way = {way: rows[asked][:, timed] for way, rows in scores.items()}
    found["actual"] = {
        way: rounded(actual_localisation(rows, correct, spoken)) for way, rows in by_way.items()
    }
    share = round(100.0 * float(by_chance[asked].mean()), 4)
    found["actual"][CHANCE] = {"P@10": share, "P@N": share}
    return found


def keyword_positions(one: Decoded) -> list[float]:
    """Return where each keyword lies, seconds: middle of its span, or most attended frame."""
    if one.attention is not None:
        return ((one.attention.argmax(1) + 0.5) * FRAME).tolist()
    return [middle(span) for span in one.spans]


def word_times(one: Decoded, words: Sequence[str]) -> Iterator[list[Span]]:
    """Return the times at which each word is spoken in a recording, seconds."""
    spoken = [(spoken_word(word), (word.start, word.end)) for word in one.utterance.words]
    for query in words:
        yield [span for text, span in spoken if text == query]


def table(result: TaskResult) -> str:
    """Lay a result out, chance and written captions in rows of their own."""
    head = ("split", "by", *FOUND, *(f"picture {name}" for name in FOUND), "word at P@10, P@N")
    rows, counts = [], []
    for split, found in result.metrics.items():
        place = found.get("localisation", {})
        actual = place.get("actual", {})
        for way in (*WAYS, CAPTIONS, CHANCE):
            if way in found["words"]:
                parts = found["words"][way], found["pictures"].get(way, {})
                cells = [f"{part[k]:.1f}" if part else "" for part in parts for k in FOUND]
                placed = ", ".join(f"{value:.1f}" for value in actual.get(way, {}).values())
                rows.append((split, way, *cells, placed))
        said = f"{split}: {found['words']['queries']} words, {found['recordings']:,} recordings"
        if "oracle" in place:
            said += f", word found where it is spoken {place['oracle']:.1f} %, by any keyword "
            said += f"{place['oracle_any_keyword']:.1f}, by chance {place['oracle_chance']:.1f}"
        counts.append(said)
    return titled_table(result, "keyword spotting in percent", head, rows, "; ".join(counts))


def board_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard figures of a result."""
    for split, found in result.metrics.items():
        place = found.get("localisation", {})
        for way in (*WAYS, CHANCE):
            columns: dict[str, tuple[str, ...]] = {}
            if way in found["words"]:
                columns |= {name: ("words", way, name) for name in FOUND}
            if way in found["pictures"]:
                columns |= {f"picture {name}": ("pictures", way, name) for name in FOUND}
            if way in place.get("actual", {}):
                columns["placed P@10"] = ("localisation", "actual", way, "P@10")
            oracle = {KEYWORDS: "oracle", CHANCE: "oracle_chance"}.get(way, "")
            if oracle in place:
                columns["oracle"] = ("localisation", oracle)
            for column, keys in columns.items():
                yield Figure(
                    column=column,
                    keys=(split, *keys),
                    split=split,
                    detail="" if way == CHANCE else way,
                    baseline=CHANCE if way == CHANCE else "",
                )


BENCHMARK = Benchmark(
    add_options=add_options,
    run=run,
    table=table,
    extra="superb",
    section=Section(
        name="spotting",
        title="Keyword spotting",
        about="A written word, or a picture of it, ranks the recordings; percent, mean over "
        "queries. Placed P@10: of the first ten, those that say the word at the predicted "
        "position; oracle: share of correct positions where the word is known to be spoken.",
        columns=(
            *(Column(name=name, lower_is_better=name == "EER") for name in FOUND),
            *(Column(name=f"picture {name}", lower_is_better=name == "EER") for name in FOUND),
            Column(name="placed P@10"),
            Column(name="oracle", title="oracle localisation"),
        ),
        rank_by="P@10",
        figures=board_figures,
    ),
)
