"""The keyword norm against PyTorch's batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from s3prl_speechclip.modules.keyword_norm import KeywordNorm

B, K, D = 6, 4, 5


def keywords(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(B, K, D, generator=generator) + 0.5).requires_grad_()


def official(slots: int | None) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(D if slots is None else D * slots)


def run_official(norm: nn.BatchNorm1d, values: Tensor, slots: int | None) -> Tensor:
    """Normalise as the official code does: axes (D, K) in one, or all keywords alike."""
    if slots is None:
        return norm(values.permute(0, 2, 1)).permute(0, 2, 1)
    flat = norm(values.permute(0, 2, 1).reshape(B, -1))
    return flat.reshape(B, D, K).permute(0, 2, 1)


@pytest.mark.parametrize("slots", [None, K])
@pytest.mark.parametrize("count_padding", [False, True])
def test_it_is_pytorchs_batch_norm(slots: int | None, count_padding: bool):
    """Guards statistics, their running form, evaluation and gradients, in both of its ways."""
    own = KeywordNorm(width=D, slots=slots, learnable=True, count_padding=count_padding)
    theirs = official(slots)
    none = torch.zeros(B, K, dtype=torch.bool)
    for seed in range(2):
        mine, other = keywords(seed), keywords(seed)
        weights = torch.randn(B, K, D, generator=torch.Generator().manual_seed(9))
        found, expected = own(mine, none), run_official(theirs, other, slots)
        torch.testing.assert_close(found, expected)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-4)
    shape = (D,) if slots is None else (D, K)
    for name in ("running_mean", "running_var"):
        flat = getattr(theirs, name).view(shape)
        torch.testing.assert_close(getattr(own, name), flat if slots is None else flat.T)
    own.eval(), theirs.eval()
    torch.testing.assert_close(own(keywords()), run_official(theirs, keywords(), slots))


def test_padded_keywords_leave_the_statistics_alone():
    """Guards against zeros beyond an utterance's keywords pulling the mean to zero."""
    padding = torch.arange(K).unsqueeze(0) >= torch.tensor([4, 1, 2, 3, 4, 1]).unsqueeze(1)
    values = keywords().detach()
    own = KeywordNorm(width=D, slots=None, learnable=True)
    theirs = nn.BatchNorm1d(D)
    expected = theirs(values[~padding])
    torch.testing.assert_close(own(values, padding)[~padding], expected)
    torch.testing.assert_close(own.running_var, theirs.running_var)


def test_one_keyword_alone_is_normalised_and_finite():
    """Guards a batch of one keyword, whose unbiased variance has no degree of freedom."""
    own = KeywordNorm(width=D, slots=None, learnable=True, count_padding=True)
    assert own(torch.randn(1, 1, D)).isfinite().all()
    assert own.running_var.isfinite().all()


@pytest.mark.parametrize("slots", [None, K])
def test_it_starts_from_the_codebook(slots: int | None):
    """Guards the paper's initialisation: standard deviation and mean of the token embeddings."""
    codebook = torch.randn(50, D) * 3 + 1
    own = KeywordNorm(width=D, slots=slots, learnable=True)
    own.start_from(codebook, 2.0)
    assert torch.equal(own.weight.expand(K, D), (codebook.std(0) * 2).expand(K, D))
    assert torch.equal(own.bias.expand(K, D), codebook.mean(0).expand(K, D))


def test_a_fixed_norm_is_not_trained():
    own = KeywordNorm(width=D, slots=None, learnable=False)
    assert not own.weight.requires_grad and not own.bias.requires_grad
