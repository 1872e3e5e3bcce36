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
from typing import Any

import numpy as np
import soundfile
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.cache import writing
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, WORD_END, decode, tokenizer
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.structures import SAMPLE_RATE, TaskResult

from ..formulas.keyword_scores import Neighbours, read_caption
from ..shared.decoding import FRAME, Decoded, evenly
from . import fill

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
        manifest: the corpus, for the recordings' files.
        path: file of the page.
        recordings: number of English recordings of each split that are shown, spread evenly.

    Raises:
        AudioError: a recording cannot be read.
        CorpusError: the page cannot be written.
    """
    shown, lines = [], []
    for split, ones in decoded.items():
        captioned = [one for one in ones if one.language == "en" and one.caption]
        chosen = sorted(evenly(len(captioned), recordings))
        shown += [_recording(captioned[place], split, neighbours, manifest) for place in chosen]
        found = result.metrics[split]
        hits, counts = found["with_stop_words"]["hit_rate"], found["counts"]
        lines.append(
            f"{split}: hit rate {hits['mean']:.1f} % (chance {hits['chance']:.1f} %), "
            f"{counts['keywords']:.1f} keywords for {counts['words']:.1f} words, "
            f"{len(chosen)} of {found['recordings']} recordings shown"
        )
    data = {
        "title": f"Keywords of {result.system} ({result.size}) on {result.corpus}",
        "subtitle": "; ".join(lines),
        "mini": result.mini,
        "frame": FRAME,
        "recordings": shown,
    }
    with writing(path.parent):
        path.write_text(fill("keywords.html", data), encoding="utf-8")


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
        "caption": one.caption,
        "split": split,
        "speaker": "synthetic" if utterance.synthetic else "human",
        "duration": round(len(waveform) / SAMPLE_RATE, 4),
        "audio": "data:audio/ogg;base64," + base64.b64encode(file.getvalue()).decode(),
        "peaks": [[round(float(c.min())), round(float(c.max()))] for c in columns],
        "alpha": alpha,
        "spans": [[round(onset, 4), round(offset, 4)] for onset, offset in one.spans],
        "words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in utterance.words],
        "keywords": keywords,
        "hits": sum(any(hit for _, hit in near) for near in keywords),
    }


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
