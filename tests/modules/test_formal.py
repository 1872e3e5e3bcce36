"""Critics of token sequences: the language model, the discriminator, and their losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from s3prl_speechclip.modules.formal import (
    SequenceDiscriminator,
    TokenLanguageModel,
    discriminator_loss,
    generator_loss,
    sequence_cross_entropy,
)

TOKENS, WIDTH = 12, 8


@pytest.fixture
def codebook() -> torch.Tensor:
    torch.manual_seed(0)
    return 0.1 * torch.randn(TOKENS, WIDTH)


def sequences(count: int, length: int, step: int) -> torch.Tensor:
    """Make rows that rise by `step`, modulo the vocabulary: a language without choice."""
    starts = torch.arange(count).unsqueeze(1) % TOKENS
    return (starts + step * torch.arange(length)) % TOKENS


def test_cross_entropy_is_the_mean_over_valid_tokens() -> None:
    """Fault: padding counts, or the soft choice is not averaged; against a loop."""
    torch.manual_seed(0)
    log_probabilities = torch.randn(3, 4, TOKENS).log_softmax(2)
    chosen = torch.randn(3, 4, TOKENS).softmax(2)
    lengths = [4, 1, 2]
    costs = [
        -sum(float(chosen[b, k, v] * log_probabilities[b, k, v]) for v in range(TOKENS))
        for b, length in enumerate(lengths)
        for k in range(length)
    ]
    found = sequence_cross_entropy(log_probabilities, chosen, torch.tensor(lengths))
    assert float(found) == pytest.approx(sum(costs) / len(costs), rel=1e-5)


def test_a_new_language_model_is_a_unigram_model(codebook: torch.Tensor) -> None:
    """Fault: training starts from a model that is worse than counting."""
    counts = torch.arange(TOKENS)
    found = TokenLanguageModel(codebook, counts).eval()(codebook[sequences(2, 5, 1)])
    expected = ((counts + 1) / (counts + 1).sum()).log()
    torch.testing.assert_close(found, expected.expand(2, 5, TOKENS))


def test_a_language_model_learns_what_follows_what(codebook: torch.Tensor) -> None:
    """Fault: it sees the token that it predicts, or none before it."""
    torch.manual_seed(0)
    model = TokenLanguageModel(codebook, torch.ones(TOKENS), dropout=0.0)
    rows = sequences(TOKENS, 6, 5)
    lengths = torch.full((TOKENS,), 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        predicted = model(codebook[rows])
        sequence_cross_entropy(predicted, F.one_hot(rows, TOKENS).float(), lengths).backward()
        optimizer.step()
    predicted = model(codebook[rows]).detach()
    # The first token is any of twelve, all others follow from it.
    first = -predicted[:, 0].gather(1, rows[:, :1]).mean()
    rest = -predicted[:, 1:].gather(2, rows[:, 1:, None]).mean()
    assert float(first) == pytest.approx(math.log(TOKENS), abs=0.05)
    assert float(rest) < 0.05
    torch.testing.assert_close(model(codebook[rows[:, :3]]).detach(), predicted[:, :3])


def test_the_discriminator_reads_no_padding(codebook: torch.Tensor) -> None:
    """Fault: it learns lengths of the batch, which says nothing of the sequence."""
    discriminator = SequenceDiscriminator(codebook)
    rows = sequences(3, 4, 1)
    padded = F.pad(codebook[rows], (0, 0, 0, 3), value=7.0)
    lengths = torch.tensor([4, 4, 4])
    torch.testing.assert_close(
        discriminator(padded, lengths), discriminator(codebook[rows], lengths)
    )


def test_the_discriminator_tells_languages_apart_and_stays_unsure(codebook: torch.Tensor) -> None:
    """Fault: losses of the wrong sign, or R1 that does not hold the gradient down."""
    steepness = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        discriminator = SequenceDiscriminator(codebook)
        optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
        lengths = torch.full((TOKENS,), 5)
        real = codebook[sequences(TOKENS, 5, 1)]
        made = codebook[sequences(TOKENS, 5, 5)]
        for _ in range(150):
            optimizer.zero_grad()
            discriminator_loss(discriminator, (real, lengths), (made, lengths), weight).backward()
            optimizer.step()
        inputs = real.clone().requires_grad_()
        scores = discriminator(inputs, lengths)
        assert float(scores.mean()) > 0 > float(discriminator(made, lengths).mean())
        (gradient,) = torch.autograd.grad(scores.sum(), inputs)
        steepness[weight] = float(gradient.norm())
    assert steepness[10.0] < steepness[0.0] / 2


def test_the_generator_is_pulled_towards_captions(codebook: torch.Tensor) -> None:
    """Fault: the loss pushes keywords away from what scores as a caption."""
    torch.manual_seed(0)
    discriminator = SequenceDiscriminator(codebook)
    made = codebook[sequences(2, 4, 1)].clone().requires_grad_()
    lengths = torch.tensor([4, 4])
    before = generator_loss(discriminator(made, lengths))
    (gradient,) = torch.autograd.grad(before, made)
    after = generator_loss(discriminator(made - 0.01 * gradient / gradient.norm(), lengths))
    assert after < before
