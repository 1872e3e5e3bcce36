"""Alignments of many documents at once, beside dtw-python's of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dtw import dtw
from scipy.spatial.distance import cdist

from s3prl_speechclip.downstream import dtw as fast
from s3prl_speechclip.downstream.dtw import DISTANCES, find_distance, match_costs
from s3prl_speechclip.errors import ConfigError

SCIPY = {
    "cosine": lambda q, d: cdist(q, d, "cosine"),
    "cosine_exp": lambda q, d: np.exp(cdist(q, d, "cosine")) - 1,
    "cosine_neg_log": lambda q, d: -np.log(1 - cdist(q, d, "cosine")),
    "euclidean": lambda q, d: cdist(q, d, "euclidean"),
    "cityblock": lambda q, d: cdist(q, d, "cityblock"),
}


def sequences(lengths: list[int], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(n, 6, generator=generator, dtype=torch.float64) + 0.1 for n in lengths]


def slow_cost(query: np.ndarray, document: np.ndarray, method: str, minmax: bool) -> float:
    distances = SCIPY[method](query, document)
    if minmax:
        low, high = distances.min(1, keepdims=True), distances.max(1, keepdims=True)
        distances = (distances - low) / np.clip(high - low, 1e-9, np.inf)
    found = dtw(x=distances, step_pattern="asymmetric", open_begin=True, open_end=True)
    return float(found.normalizedDistance)


@pytest.mark.parametrize("minmax", [True, False])
@pytest.mark.parametrize("method", DISTANCES)
def test_costs_are_those_of_dtw_python(method, minmax, monkeypatch):
    """Guards against a wrong step pattern, padding that is matched, or mixed up documents."""
    monkeypatch.setattr(fast, "CHUNK", 30)  # several groups of documents
    queries, documents = sequences([5, 9, 1], seed=0), sequences([12, 3, 20, 7, 1, 8], seed=1)
    costs = match_costs(queries, documents, find_distance(method), minmax)
    expected = [
        [slow_cost(q.numpy(), d.numpy(), method, minmax) for d in documents] for q in queries
    ]
    torch.testing.assert_close(costs, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_an_unknown_distance_is_named():
    with pytest.raises(ConfigError, match="did you mean 'cosine_exp'"):
        find_distance("cosin_exp")
