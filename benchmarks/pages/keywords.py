"""Decoded keywords to look at: one HTML page with their recordings, and a plot among CLIP's tokens.

Principal components are those of the token embeddings of the reduced vocabulary, so that keywords
before and after keyword norm are seen in one plane. SpeechCLIP (arXiv 2210.00705), section 3.3,
introduces its batch norm so that keywords start where tokens lie.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.data.images import open_image
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, WORD_END, decode, tokenizer
from s3prl_speechclip.errors import ImageError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.structures import SAMPLE_RATE, TaskResult

from ..formulas.keyword_scores import WORD, Neighbours, read_caption, stop_words, word_of
from ..shared.decoding import FRAME, Decoded
from . import fill

GROUPS = (
    (
        "What it can do",
        "The best: recordings with more than half of their content words named, those with the "
        "most named words first, and no words twice.",
    ),
    (
        "A random draw",
        "Drawn before the others from all recordings, whatever was decoded: how well it does on "
        "average.",
    ),
    (
        "Failures",
        "Drawn from the recordings that have no keyword near a content word.",
    ),
)
"""Titles of the page's parts, and how their recordings are chosen; content words are those of the
caption that are no stop words."""
SIDE = 176  # pixels of a picture, twice what it is shown at
PEAKS = 500  # columns of a waveform
PLANE = 2  # components drawn
NAMED = 10  # components whose variance is reported
DOTS = 4000  # keywords drawn at most


def write_page(
    result: TaskResult,
    decoded: Mapping[str, Sequence[Decoded]],
    neighbours: Neighbours,
    manifest: Manifest,
    path: Path,
    recordings: int,
) -> None:
    """Write the page of a keyword result.

    Args:
        result: the result, for the title.
        decoded: recordings by split.
        neighbours: nearest tokens of every token.
        manifest: the corpus, for the files of recordings and images.
        path: file of the page.
        recordings: number of recordings shown of each group and split, at most.

    Raises:
        AudioError: a recording cannot be read.
        CorpusError: the page cannot be written.
    """
    groups: list[dict[str, Any]] = [
        {"title": title, "about": about, "counts": [], "recordings": []} for title, about in GROUPS
    ]
    can, cannot = [], []
    for split, ones in decoded.items():
        english = [one for one in ones if one.language == "en" and one.caption]
        for group, (of_kind, chosen) in zip(
            groups, choose(english, neighbours, recordings), strict=True
        ):
            group["counts"].append(f"{split}: {of_kind:,} of {len(english):,}, {len(chosen)} shown")
            group["recordings"] += [_recording(one, split, neighbours, manifest) for one in chosen]
        found, spoken = result.metrics[split], result.metrics[split]["without_stop_words"]
        hits = spoken["hit_rate"]
        can.append(
            f"on {split} {hits['mean']:.1f} % of keywords are a content word of the caption or near"
            f" one ({hits['chance']:.1f} % by chance)"
        )
        cannot.append(
            f"on {split} no keyword names {100 - spoken['words']['recall']:.0f} % of the content "
            f"words, and {100 - hits['any']:.0f} % of the recordings have no keyword near one; "
            f"{found['counts']['duplicates']:.0f} % of keywords repeat another of their recording"
        )
        others = found.get("by_language", {})
        if total := sum(rates["recordings"] for rates in others.values()):
            mean, chance = (
                sum(rates["recordings"] * rates[name] for rates in others.values()) / total
                for name in ("mean", "chance")
            )
            cannot.append(
                f"in other languages ({', '.join(others)}) {mean:.1f} % of keywords are near a "
                f"word of the English caption ({chance:.1f} % by chance)"
            )
    data = {
        "title": f"Keywords of {result.system} ({result.size}) on {result.corpus}",
        "can": "; ".join(can),
        "cannot": "; ".join(cannot),
        "mini": result.mini,
        "frame": FRAME,
        "groups": groups,
    }
    with writing(path.parent):
        path.write_text(fill("keywords.html", data), encoding="utf-8")


def choose(
    ones: Sequence[Decoded], neighbours: Neighbours, count: int
) -> tuple[tuple[int, list[Decoded]], ...]:
    """Choose the recordings of a split that are shown, for each of `GROUPS`.

    The random draw is made first, of all; the others are chosen from what it left.

    Returns:
        For each group, how many recordings are of its kind, and those chosen, `count` at most.
    """
    random, places = Random(0), range(len(ones))
    drawn = random.sample(places, min(count, len(ones)))
    captions = [read_caption(one.caption, stop_words()) for one in ones]
    named = [named_words(one) for one in ones]
    near = [{token for keyword in one.token_ids for token in neighbours[keyword]} for one in ones]
    good = [p for p in places if 2 * len(named[p]) > len(captions[p].words)]
    missed = [p for p in places if captions[p].words and captions[p].tokens.isdisjoint(near[p])]
    # The first of equals is the first in the corpus.
    best: dict[frozenset[str], int] = {}
    for place in sorted(good, key=lambda p: -len(named[p])):
        if place not in drawn:
            best.setdefault(named[place], place)
    left = [place for place in missed if place not in drawn]
    failed = random.sample(left, min(count, len(left)))
    kinds = ((good, [*best.values()][:count]), (places, drawn), (missed, failed))
    return tuple((len(kind), [ones[place] for place in chosen]) for kind, chosen in kinds)


def named_words(one: Decoded) -> frozenset[str]:
    """Return the content words of a recording's caption that its keywords name."""
    named = {word_of(token) for token in one.token_ids}
    return frozenset(read_caption(one.caption, stop_words()).words & named)


def token_text(token_id: int) -> str:
    """Return a token as shown: its text, with a dash where it is only the beginning of a word."""
    if token_id in SPECIAL_TOKENS:
        return f"({token_id})"
    piece = tokenizer().decoder.get(token_id, "")
    return decode([token_id]) + ("" if piece.endswith(WORD_END) else "-")


def _recording(
    one: Decoded, split: str, neighbours: Neighbours, manifest: Manifest
) -> dict[str, Any]:
    utterance = one.utterance
    waveform = read_audio(manifest.path(utterance.audio))
    tokens = read_caption(one.caption).tokens
    keywords = [
        [[token_text(near), near in tokens] for near in neighbours[token]]
        for token in one.token_ids
    ]
    alpha = [] if one.alpha is None else (100 * one.alpha).round().astype(int).tolist()
    # Opus takes some 4 kB a second.
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1, 1), SAMPLE_RATE, format="OGG", subtype="OPUS")
    # Each column's lowest and highest sample, in percent of the loudest.
    percent = 100 * waveform / (float(np.abs(waveform).max()) or 1.0)
    columns = np.array_split(percent, min(PEAKS, len(percent)))
    return {
        "name": utterance.utterance_id,
        "caption": _marked(one.caption, named_words(one)),
        "split": split,
        "speaker": "synthetic" if utterance.synthetic else "human",
        "duration": round(len(waveform) / SAMPLE_RATE, 4),
        "audio": _inline("audio/ogg", file.getvalue()),
        "image": _thumbnail(manifest.path(utterance.image)),
        "peaks": [[round(float(c.min())), round(float(c.max()))] for c in columns],
        "alpha": alpha,
        "spans": [[round(onset, 4), round(offset, 4)] for onset, offset in one.spans],
        "words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in utterance.words],
        "keywords": keywords,
        "hits": sum(any(hit for _, hit in near) for near in keywords),
    }


def _marked(caption: str, named: frozenset[str]) -> list[tuple[str, bool]]:
    """Split a caption into parts, those that are named words apart."""
    parts, end = [], 0
    for match in WORD.finditer(caption):
        if match[0].lower() in named:
            parts += [(caption[end : match.start()], False), (match[0], True)]
            end = match.end()
    return [*parts, (caption[end:], False)]


def _thumbnail(path: Path) -> str:
    """Return an image as small as it is shown; nothing where it cannot be read: only the
    recordings are measured."""
    try:
        image = open_image(path)
    except ImageError:
        return ""
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return _inline("image/jpeg", file.getvalue())


def _inline(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def principal_components(vectors: np.ndarray) -> PCA:
    """Fit the principal components of vectors, (V, D), V at least 2."""
    return PCA(svd_solver="full").fit(vectors)


def placement(vectors: np.ndarray, tokens: np.ndarray, components: PCA) -> dict[str, float]:
    """Measure where keywords, (M, D), lie among tokens, (V, D), of these principal components.

    Returns:
        `explained_by_plane`: percent of the keywords' variance in the tokens' first two components;
        `own_plane`: in their own first two. In units of the tokens' root mean square distance from
        their mean: `spread`, the same distance of keywords from theirs, and `shift`, the distance
        between the means. `norm`: mean length over that of the tokens.
    """
    spread = _spread(tokens)
    centred = vectors - vectors.mean(0)
    total = float((centred**2).sum())
    inside = float(((centred @ components.components_[:PLANE].T) ** 2).sum())
    own = 0.0
    if len(vectors) > 1 and total:
        own = float(principal_components(vectors).explained_variance_ratio_[:PLANE].sum())
    lengths = [float(np.linalg.norm(some, axis=1).mean()) for some in (vectors, tokens)]
    return {
        "explained_by_plane": round(100.0 * inside / total, 4) if total else 0.0,
        "own_plane": round(100.0 * own, 4),
        "spread": round(_spread(vectors) / spread, 4),
        "shift": round(float(np.linalg.norm(vectors.mean(0) - tokens.mean(0))) / spread, 4),
        "norm": round(lengths[0] / lengths[1], 4),
    }


def keyword_placement(model: SpeechClip, decoded: Sequence[Decoded]) -> dict[str, dict[str, Any]]:
    """Measure where the keywords of a split lie among the model's tokens.

    Returns:
        `tokens`: number, and percent of variance explained by each of the first components;
        `keywords`, `without_norm`: number of keywords whose vectors were kept, and `placement`, the
        second where there is a norm.
    """
    tokens = _tokens(model)
    components = principal_components(tokens)
    explained = [round(100.0 * float(e), 4) for e in components.explained_variance_ratio_[:NAMED]]
    found: dict[str, dict[str, Any]] = {"tokens": {"number": len(tokens), "explained": explained}}
    for kind, vectors in _vectors(model, decoded).items():
        found[kind] = {"number": len(vectors), **placement(vectors, tokens, components)}
    return found


def plot_keywords(model: SpeechClip, decoded: Mapping[str, Sequence[Decoded]], path: Path) -> None:
    """Draw keywords over token embeddings into a PNG, a row for each split.

    Args:
        model: the model, with its tokens.
        decoded: recordings by split; those with keyword vectors are drawn.
        path: file of the picture.

    Raises:
        CorpusError: the picture cannot be written.
    """
    tokens = _tokens(model)
    components = principal_components(tokens)
    ground = components.transform(tokens)
    first, second = 100.0 * components.explained_variance_ratio_[:PLANE]
    kinds = 1 if model.config.keywords.norm == "none" else 2
    figure = Figure(figsize=(6.0 * kinds, 5.0 * len(decoded)), layout="constrained")
    axes = figure.subplots(len(decoded), kinds, squeeze=False)
    for (split, ones), row in zip(decoded.items(), axes, strict=True):
        kept = [range(len(one.token_ids)) for one in ones if one.queries is not None]
        slots = np.concatenate([list(slot) for slot in kept])
        fired = any(one.spans for one in ones)  # CIF's keywords have no slots
        for (kind, vectors), axis in zip(_vectors(model, ones).items(), row, strict=True):
            step = -(-len(vectors) // DOTS)
            dots, groups = components.transform(vectors[::step]), slots[::step] * (not fired)
            axis.scatter(*ground.T[:PLANE], s=4, c="#b8bec6", linewidths=0, label="tokens")
            for group in np.unique(groups):
                label = "keywords" if fired else f"keyword {group + 1}"
                these = dots[groups == group].T[:PLANE]
                axis.scatter(*these, s=5, linewidths=0, alpha=0.6, label=label)
            axis.legend(loc="best", fontsize="small", markerscale=2)
            axis.set_xlabel(f"component 1 of the tokens ({first:.1f} % of their variance)")
            axis.set_ylabel(f"component 2 ({second:.1f} %)")
            before = " before keyword norm" if kind == "without_norm" else ""
            axis.set_title(f"{split}: keywords{before}")
    with writing(path.parent):
        # The library's version in the file would make the same picture another file.
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _tokens(model: SpeechClip) -> np.ndarray:
    rows = np.setdiff1d(np.arange(len(model.clip.vocabulary)), model.clip.banned_rows.cpu().numpy())
    return model.clip.codebook().detach().float().cpu().numpy()[rows]


def _vectors(model: SpeechClip, decoded: Sequence[Decoded]) -> dict[str, np.ndarray]:
    """Return the kept vectors of keywords, (M, D), after and, where there is a norm, before it."""
    kinds = {"keywords": [one.queries for one in decoded if one.queries is not None]}
    if model.config.keywords.norm != "none":
        kinds["without_norm"] = [one.unnormed for one in decoded if one.unnormed is not None]
    return {kind: np.concatenate(vectors) for kind, vectors in kinds.items()}


def _spread(vectors: np.ndarray) -> float:
    return float(np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()))
