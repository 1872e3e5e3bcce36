"""Where keywords lie among CLIP's token embeddings, with and without keyword norm.

Principal components are those of the token embeddings of the reduced vocabulary, so that both sets
of keywords are seen in one plane. What SpeechCLIP (arXiv 2210.00705), section 3.3, expects of its
batch norm shows: keywords that start where tokens lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.model.speechclip import SpeechClip

from .hearing import Heard

PLANE = 2  # components drawn
NAMED = 10  # components whose variance is reported
DOTS = 4000  # keywords drawn at most
TITLES = {"keywords": "keywords", "without_norm": "the same before keyword norm"}


@dataclass(frozen=True)
class Components:
    """Principal components of token embeddings."""

    mean: np.ndarray
    """(D,)"""
    directions: np.ndarray
    """(N, D), orthonormal, the strongest first, each with its largest entry positive."""
    explained: np.ndarray
    """(N,) share of the variance along each."""

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Give the coordinates of vectors, (M, D) to (M, N)."""
        return (vectors - self.mean) @ self.directions.T


def principal_components(vectors: np.ndarray) -> Components:
    """Find the principal components of vectors, (V, D), V at least 2."""
    mean = vectors.mean(0)
    _, strengths, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    total = (strengths**2).sum()
    explained = strengths**2 / total if total else np.zeros_like(strengths)
    return Components(mean, directions * np.where(largest < 0, -1.0, 1.0), explained)


def placement(vectors: np.ndarray, tokens: np.ndarray, components: Components) -> dict[str, float]:
    """Say how keywords lie among tokens.

    Args:
        vectors: keywords, (M, D).
        tokens: token embeddings, (V, D).
        components: of the tokens.

    Returns:
        `explained_by_plane`: percent of the keywords' variance in the tokens' first two components;
        `own_plane`: in their own first two. In units of the tokens' root mean square distance from
        their mean: `spread`, the same distance of keywords from theirs, and `shift`, the distance
        between the means. `norm`: mean length over that of the tokens.
    """
    spread = _spread(tokens)
    centred = vectors - vectors.mean(0)
    total = float((centred**2).sum())
    inside = float(((centred @ components.directions[:PLANE].T) ** 2).sum())
    own = principal_components(vectors).explained[:PLANE].sum() if len(vectors) > 1 else 0.0
    return {
        "explained_by_plane": round(100.0 * inside / total, 4) if total else 0.0,
        "own_plane": round(100.0 * float(own), 4),
        "spread": round(_spread(vectors) / spread, 4),
        "shift": round(float(np.linalg.norm(vectors.mean(0) - tokens.mean(0))) / spread, 4),
        "norm": round(
            float(np.linalg.norm(vectors, axis=1).mean() / np.linalg.norm(tokens, axis=1).mean()), 4
        ),
    }


def plot_keywords(
    model: SpeechClip, heard: Mapping[str, Sequence[Heard]], path: Path
) -> dict[str, dict[str, Any]]:
    """Draw keywords over token embeddings into a PNG, a row for each split.

    Args:
        model: whose tokens are drawn.
        heard: recordings by split; those with keyword vectors are drawn.
        path: of the picture.

    Returns:
        By split, `tokens`: number, and percent of variance explained by each of the first
        components; `keywords`, `without_norm`: their number and `placement`, the second where there
        is a norm.

    Raises:
        ResultError: the picture cannot be written.
    """
    rows = np.setdiff1d(np.arange(len(model.clip.vocabulary)), model.clip.banned_rows.cpu().numpy())
    tokens = model.clip.codebook().detach().float().cpu().numpy()[rows]
    components = principal_components(tokens)
    about = {
        "number": len(tokens),
        "explained": [round(100.0 * float(e), 4) for e in components.explained[:NAMED]],
    }
    kinds = ["keywords"] if model.config.keywords.norm == "none" else ["keywords", "without_norm"]
    figure = Figure(figsize=(6.0 * len(kinds), 5.0 * len(heard)), layout="constrained")
    axes = figure.subplots(len(heard), len(kinds), squeeze=False)
    found: dict[str, dict[str, Any]] = {}
    for (split, ones), row in zip(heard.items(), axes, strict=True):
        found[split] = {"tokens": about}
        slots = None if any(one.spans for one in ones) else _slots(ones)
        for kind, axis in zip(kinds, row, strict=True):
            vectors = _vectors(ones, kind)
            _draw(axis, components, tokens, vectors, slots)
            axis.set_title(f"{split}: {TITLES[kind]}")
            found[split][kind] = {"number": len(vectors), **placement(vectors, tokens, components)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The library's version in the file would make the same picture another file.
        figure.savefig(path, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise ResultError(f"cannot write the picture '{path}': {error.strerror}") from error
    return found


def _vectors(heard: Sequence[Heard], kind: str) -> np.ndarray:
    vectors = [one.queries if kind == "keywords" else one.unnormed for one in heard]
    return np.concatenate([v for v in vectors if v is not None])


def _slots(heard: Sequence[Heard]) -> np.ndarray:
    return np.concatenate(
        [np.arange(len(one.token_ids)) for one in heard if one.queries is not None]
    )


def _draw(
    axis: Axes,
    components: Components,
    tokens: np.ndarray,
    vectors: np.ndarray,
    slots: np.ndarray | None,
) -> None:
    ground = components.project(tokens)
    step = -(-len(vectors) // DOTS)
    dots = components.project(vectors[::step])
    axis.scatter(ground[:, 0], ground[:, 1], s=4, c="#b8bec6", linewidths=0, label="tokens")
    groups = np.zeros(len(dots), dtype=int) if slots is None else slots[::step]
    for group in np.unique(groups):
        label = "keywords" if slots is None else f"keyword {group + 1}"
        these = dots[groups == group]
        axis.scatter(these[:, 0], these[:, 1], s=5, linewidths=0, alpha=0.6, label=label)
    axis.legend(loc="best", fontsize="small", markerscale=2)
    first, second = 100.0 * components.explained[:PLANE]
    axis.set_xlabel(f"component 1 of the tokens ({first:.1f} % of their variance)")
    axis.set_ylabel(f"component 2 ({second:.1f} %)")


def _spread(vectors: np.ndarray) -> float:
    return float(np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()))
