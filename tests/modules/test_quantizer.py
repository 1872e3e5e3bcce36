"""The cosine quantiser against a slow straight-through oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s3prl_speechclip.model.config import KeywordConfig
from s3prl_speechclip.modules.quantizer import CosineQuantizer, code_perplexity, cosine_scores

BANNED = torch.tensor([0, 2])
B, K, V, D = 2, 3, 11, 5


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    keywords = torch.randn(B, K, D, generator=generator, dtype=dtype, requires_grad=True)
    return keywords, torch.randn(V, D, generator=generator, dtype=dtype)


def oracle(keywords: Tensor, codebook: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One keyword and one token at a time: hard choice + soft choice - soft choice, detached."""
    embeddings, rows = [], []
    for keyword in keywords.reshape(-1, D):
        scores = []
        for row, token in enumerate(codebook):
            cosine = (keyword @ token) / (keyword.norm() * token.norm())
            scores.append(cosine - float("inf") if row in BANNED.tolist() else cosine)
        soft = torch.stack(scores).div(temperature).softmax(0)
        best = max(range(V), key=lambda row: scores[row].item())
        hard = torch.nn.functional.one_hot(torch.tensor(best), V).to(soft.dtype)
        embeddings.append((hard + soft - soft.detach()) @ codebook)
        rows.append(best)
    return torch.stack(embeddings).view(B, K, D), torch.tensor(rows).view(B, K)


def test_choice_and_gradient_are_the_straight_through_estimators():
    """Guards equations 2 to 4: the gradient is the soft choice's, though the value is hard."""
    keywords, codebook = inputs()
    weights = torch.randn(B, K, D, generator=torch.Generator().manual_seed(1))
    found = CosineQuantizer(KeywordConfig(temperature=0.3)).train()(keywords, codebook, BANNED)
    (gradient,) = torch.autograd.grad((found.embeddings * weights).sum(), keywords)
    embeddings, rows = oracle(keywords, codebook, 0.3)
    (expected,) = torch.autograd.grad((embeddings * weights).sum(), keywords)
    assert torch.equal(found.rows, rows)
    torch.testing.assert_close(found.embeddings, embeddings)
    torch.testing.assert_close(gradient, expected)


@given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    temperature=st.sampled_from([0.05, 0.1, 1.0]),
    training=st.booleans(),
)
def test_any_choice_is_the_oracles(seed: int, scale: float, temperature: float, training: bool):
    """Guards the cosine against the keywords' length, and both modes against each other."""
    generator = torch.Generator().manual_seed(seed)
    keywords = scale * torch.randn(B, K, D, generator=generator)
    codebook = torch.randn(V, D, generator=generator)
    cosines = cosine_scores(keywords, codebook)
    best = cosines.index_fill(-1, BANNED, -2).topk(2).values
    assume(bool((best[..., 0] - best[..., 1] > 1e-5).all()))
    quantizer = CosineQuantizer(KeywordConfig(temperature=temperature)).train(training)
    found = quantizer(keywords, codebook, BANNED)
    _, rows = oracle(keywords, codebook, temperature)
    assert torch.equal(found.rows, rows)
    torch.testing.assert_close(found.embeddings, codebook[rows], atol=1e-5, rtol=0)


def test_a_keyword_of_zeros_is_finite():
    """Guards silence: a vector without direction has a choice, and no gradient of infinity."""
    keywords = torch.zeros(1, 1, D, requires_grad=True)
    found = CosineQuantizer(KeywordConfig()).train()(keywords, inputs()[1], BANNED)
    found.embeddings.sum().backward()
    assert found.embeddings.isfinite().all() and keywords.grad.isfinite().all()


@pytest.mark.parametrize("gumbel", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_banned_rows_are_never_chosen(gumbel: bool, training: bool):
    """Guards padding, start and end of text, which would cut the sentence short."""
    codebook = torch.randn(V, D)
    keywords = codebook[BANNED].unsqueeze(0)
    quantizer = CosineQuantizer(KeywordConfig(gumbel=gumbel)).train(training)
    assert not set(quantizer(keywords, codebook, BANNED).rows.flatten().tolist()) & {0, 2}


def test_a_learned_temperature_gets_its_gradient():
    keywords, codebook = inputs()
    quantizer = CosineQuantizer(KeywordConfig(temperature=0.2, learn_temperature=True)).train()
    quantizer(keywords, codebook, BANNED).embeddings.square().sum().backward()
    assert quantizer.temperature.grad is not None and quantizer.temperature.grad.abs() > 0


def test_without_straight_through_the_soft_mixture_comes_out():
    keywords, codebook = inputs()
    found = CosineQuantizer(KeywordConfig(temperature=0.5, straight_through=False)).train()(
        keywords, codebook, BANNED
    )
    scores = cosine_scores(keywords, codebook).index_fill(-1, BANNED, float("-inf"))
    torch.testing.assert_close(found.embeddings, (scores / 0.5).softmax(-1) @ codebook)


class Largest(TorchDispatchMode):
    """Watches every operation, and keeps the size of the largest result."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_no_operation_holds_every_keyword_against_every_token():
    """Guards memory: (B, K, V, D) at 256 x 8 x 8,112 x 512 would be 34 GB."""
    keywords, codebook = torch.randn(4, 8, 64, requires_grad=True), torch.randn(300, 64)
    with Largest() as watch:
        found = CosineQuantizer(KeywordConfig()).train()(keywords, codebook, BANNED)
        found.embeddings.sum().backward()
    assert watch.elements <= max(4 * 8 * 300, 300 * 64)


def test_perplexity_counts_the_tokens_in_use():
    assert float(code_perplexity(torch.tensor([[1, 1], [1, 1]]), 9)) == pytest.approx(1, abs=1e-4)
    assert float(code_perplexity(torch.arange(8), 9)) == pytest.approx(8, rel=1e-4)
