"""Formal supervision: do the tokens of an utterance read like those of a caption?

Two critics of a token sequence, neither of which knows what was said: a language model, trained
beforehand, and a discriminator, trained along. Both read token embeddings, so that what the
quantiser chose carries their gradient.

Shapes: B batch, K tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .padding import padding_mask

CONTEXT = 2  # tokens that predict the next: a trigram model
HIDDEN = 128  # width of both critics


class TokenLanguageModel(nn.Module):
    """Predict each token from the two before it (Bengio et al., 2003), output tied to the input.

    It begins as a unigram model.

    Args:
        codebook: token embeddings, (V, D).
        counts: how often each token occurs, (V,).
        dropout: of the hidden layer.
    """

    def __init__(self, codebook: Tensor, counts: Tensor, dropout: float = 0.5) -> None:
        super().__init__()
        self.codebook: Tensor
        self.register_buffer("codebook", codebook, persistent=False)
        self.scale = float(codebook.std())
        width = codebook.shape[1]
        self.hidden = nn.Linear(CONTEXT * width, HIDDEN)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(HIDDEN, width, bias=False)
        nn.init.zeros_(self.output.weight)
        smoothed = counts.float() + 1
        self.bias = nn.Parameter((smoothed / smoothed.sum()).log())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict.

        Args:
            embeddings: token embeddings, (B, K, D).

        Returns:
            (B, K, V) log probabilities of each token, given those before it.
        """
        padded = F.pad(embeddings.float() / self.scale, (0, 0, CONTEXT, 0))
        count = embeddings.shape[1]
        before = torch.cat([padded[:, place : place + count] for place in range(CONTEXT)], 2)
        predicted = self.output(self.dropout(self.hidden(before).tanh()))
        return (predicted @ (self.codebook / self.scale).T + self.bias).log_softmax(2)


def sequence_cross_entropy(log_probabilities: Tensor, chosen: Tensor, lengths: Tensor) -> Tensor:
    """Compute the cross entropy of token choices under a language model, nats per token.

    Args:
        log_probabilities: of the language model, (B, K, V).
        chosen: probabilities of the choice, one-hot or soft, (B, K, V).
        lengths: tokens per sequence, (B,).

    Returns:
        Scalar; its exponential is the perplexity where `chosen` is one-hot.
    """
    valid = ~padding_mask(lengths, chosen.shape[1])
    costs = -(chosen * log_probabilities).sum(2)
    return (costs * valid).sum() / valid.sum().clamp_min(1)


class SequenceDiscriminator(nn.Module):
    """Score whether a token sequence is a caption's: two convolutions, mean, linear.

    Args:
        codebook: token embeddings, (V, D), provides their mean and deviation.
    """

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", codebook.mean(0), persistent=False)
        self.register_buffer("scale", codebook.std(), persistent=False)
        self.first = nn.Conv1d(codebook.shape[1], HIDDEN, 3, padding=1)
        self.second = nn.Conv1d(HIDDEN, HIDDEN, 3, padding=1)
        self.score = nn.Linear(HIDDEN, 1)

    def forward(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """Score.

        Args:
            embeddings: token embeddings, (B, K, D).
            lengths: tokens per sequence, (B,), at least 1.

        Returns:
            (B,) logits, above 0 for a caption.
        """
        valid = ~padding_mask(lengths, embeddings.shape[1]).unsqueeze(1)
        states = ((embeddings.float() - self.mean) / self.scale).transpose(1, 2) * valid
        for convolution in (self.first, self.second):
            states = F.leaky_relu(convolution(states), 0.2) * valid
        return self.score(states.sum(2) / lengths.unsqueeze(1)).squeeze(1)


def generator_loss(scores: Tensor) -> Tensor:
    """Compute the non-saturating loss of sequences that should score as captions, (B,) logits."""
    return F.softplus(-scores).mean()


def discriminator_loss(
    discriminator: SequenceDiscriminator,
    real: tuple[Tensor, Tensor],
    made: tuple[Tensor, Tensor],
    r1_weight: float,
) -> Tensor:
    """Compute the logistic loss of a discriminator, with R1 (Mescheder et al., arXiv 1801.04406).

    R1 is the squared gradient of the score at real sequences, in units of the embeddings' standard
    deviation, which keeps the discriminator from becoming certain.

    Args:
        discriminator: the discriminator.
        real: embeddings (B, K, D) and lengths (B,) of captions.
        made: the same of keywords, detached.
        r1_weight: weight of R1.
    """
    embeddings = real[0].detach().requires_grad_()
    scores = discriminator(embeddings, real[1])
    (gradient,) = torch.autograd.grad(scores.sum(), embeddings, create_graph=True)
    penalty = (gradient * discriminator.scale).square().sum((1, 2)).mean()
    wrong = F.softplus(discriminator(*made)).mean() + F.softplus(-scores).mean()
    return wrong + r1_weight / 2 * penalty
