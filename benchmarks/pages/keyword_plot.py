"""Where keywords lie among CLIP's token embeddings, with and without keyword norm.

Principal components are those of the token embeddings of the reduced vocabulary, so that both sets
of keywords are seen in one plane. SpeechCLIP (arXiv 2210.00705), section 3.3, introduces its batch
norm so that keywords start where tokens lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.model.speechclip import SpeechClip

from ..shared.decoding import Decoded

PLANE = 2  # components drawn
NAMED = 10  # components whose variance is reported
DOTS = 4000  # keywords drawn at most
TITLES = {"keywords": "keywords", "without_norm": "the same before keyword norm"}


def principal_components(vectors: np.ndarray) -> PCA:
    """Fit the principal components of vectors, (V, D), V at least 2."""
    return PCA(svd_solver="full").fit(vectors)


def placement(vectors: np.ndarray, tokens: np.ndarray, components: PCA) -> dict[str, float]:
    """Measure where keywords lie among tokens.

    Args:
        vectors: keywords, (M, D).
        tokens: token embeddings, (V, D).
        components: principal components of the tokens.

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

    Args:
        model: the model.
        decoded: recordings; those with keyword vectors count.

    Returns:
        `tokens`: number, and percent of variance explained by each of the first components;
        `keywords`, `without_norm`: their number and `placement`, the second where there is a norm.
    """
    tokens = _tokens(model)
    components = principal_components(tokens)
    explained = [round(100.0 * float(e), 4) for e in components.explained_variance_ratio_[:NAMED]]
    found: dict[str, dict[str, Any]] = {"tokens": {"number": len(tokens), "explained": explained}}
    for kind in _kinds(model):
        vectors = _vectors(decoded, kind)
        found[kind] = {"number": len(vectors), **placement(vectors, tokens, components)}
    return found


def plot_keywords(model: SpeechClip, decoded: Mapping[str, Sequence[Decoded]], path: Path) -> None:
    """Draw keywords over token embeddings into a PNG, a row for each split.

    Args:
        model: the model, with its tokens.
        decoded: recordings by split; those with keyword vectors are drawn.
        path: file of the picture.

    Raises:
        ResultError: the picture cannot be written.
    """
    tokens, kinds = _tokens(model), _kinds(model)
    components = principal_components(tokens)
    figure = Figure(figsize=(6.0 * len(kinds), 5.0 * len(decoded)), layout="constrained")
    axes = figure.subplots(len(decoded), len(kinds), squeeze=False)
    for (split, ones), row in zip(decoded.items(), axes, strict=True):
        slots = None if any(one.spans for one in ones) else _slots(ones)
        for kind, axis in zip(kinds, row, strict=True):
            _draw(axis, components, tokens, _vectors(ones, kind), slots)
            axis.set_title(f"{split}: {TITLES[kind]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The library's version in the file would make the same picture another file.
        figure.savefig(path, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise ResultError(f"cannot write the picture '{path}': {error.strerror}") from error


def _tokens(model: SpeechClip) -> np.ndarray:
    rows = np.setdiff1d(np.arange(len(model.clip.vocabulary)), model.clip.banned_rows.cpu().numpy())
    return model.clip.codebook().detach().float().cpu().numpy()[rows]


def _kinds(model: SpeechClip) -> list[str]:
    return ["keywords"] if model.config.keywords.norm == "none" else ["keywords", "without_norm"]


def _vectors(decoded: Sequence[Decoded], kind: str) -> np.ndarray:
    vectors = [one.queries if kind == "keywords" else one.unnormed for one in decoded]
    return np.concatenate([v for v in vectors if v is not None])


def _slots(decoded: Sequence[Decoded]) -> np.ndarray:
    return np.concatenate(
        [np.arange(len(one.token_ids)) for one in decoded if one.queries is not None]
    )


def _draw(
    axis: Axes,
    components: PCA,
    tokens: np.ndarray,
    vectors: np.ndarray,
    slots: np.ndarray | None,
) -> None:
    ground = components.transform(tokens)
    step = -(-len(vectors) // DOTS)
    dots = components.transform(vectors[::step])
    axis.scatter(ground[:, 0], ground[:, 1], s=4, c="#b8bec6", linewidths=0, label="tokens")
    groups = np.zeros(len(dots), dtype=int) if slots is None else slots[::step]
    for group in np.unique(groups):
        label = "keywords" if slots is None else f"keyword {group + 1}"
        these = dots[groups == group]
        axis.scatter(these[:, 0], these[:, 1], s=5, linewidths=0, alpha=0.6, label=label)
    axis.legend(loc="best", fontsize="small", markerscale=2)
    first, second = 100.0 * components.explained_variance_ratio_[:PLANE]
    axis.set_xlabel(f"component 1 of the tokens ({first:.1f} % of their variance)")
    axis.set_ylabel(f"component 2 ({second:.1f} %)")


def _spread(vectors: np.ndarray) -> float:
    return float(np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()))
