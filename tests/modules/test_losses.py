"""The objectives against a slow oracle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import infonce_oracle
from torch.nn import functional as F

from s3prl_speechclip.model.config import ObjectiveConfig
from s3prl_speechclip.modules.losses import MaskedInfoNCE, quantity_loss, repetition_loss


def pairs(number: int, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    speech, images = torch.randn(2, number, width, generator=generator)
    return F.normalize(speech, dim=1), F.normalize(images, dim=1)


@given(
    ids=st.lists(st.integers(0, 3), min_size=2, max_size=7),
    margin=st.sampled_from([0.0, 0.3]),
    decoupled=st.booleans(),
)
def test_it_is_the_oracles(ids: list[int], margin: float, decoupled: bool):
    """Guards equation 1: captions of one image are no negatives, in both directions."""
    speech, images = pairs(len(ids))
    loss = MaskedInfoNCE(ObjectiveConfig(margin=margin, decoupled=decoupled, temperature=0.1))
    found = loss(speech, images, torch.tensor(ids))
    expected = infonce_oracle.loss(speech, images, torch.tensor(ids), 10, margin, decoupled)
    assert float(found.detach()) == pytest.approx(expected, abs=1e-5)


@given(
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    scale=st.sampled_from([0.01, 1.0, 14.3, 100.0]),
    order=st.randoms(use_true_random=False),
)
def test_it_is_finite_and_knows_no_order(ids: list[int], scale: float, order):
    """Guards the loss and its gradient at any scale, and against pairs being taken by place."""
    speech, images = pairs(len(ids))
    speech.requires_grad_()
    loss = MaskedInfoNCE(ObjectiveConfig(temperature=1 / scale))
    found = loss(speech, images, torch.tensor(ids))
    found.backward()
    assert float(found.detach()) >= -1e-6 and speech.grad.isfinite().all()
    assert loss.log_scale.grad.isfinite()
    places = list(range(len(ids)))
    order.shuffle(places)
    moved = loss(speech[places], images[places], torch.tensor(ids)[places])
    torch.testing.assert_close(moved, found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_captions_of_one_image_alone_cost_nothing(decoupled: bool, number: int):
    """Guards the mask: with no negative left there is nothing to learn, not minus infinity."""
    speech, images = pairs(number)
    speech.requires_grad_()
    loss = MaskedInfoNCE(ObjectiveConfig(decoupled=decoupled, margin=0.2))
    found = loss(speech, images, torch.zeros(number))
    found.backward()
    assert float(found.detach()) == 0 and not speech.grad.any()


def test_half_precision_embeddings_are_contrasted_in_full():
    """Guards large batches, whose logits at scale 100 lose their differences in bfloat16."""
    speech, images = pairs(8)
    ids = torch.arange(8)
    full = MaskedInfoNCE(ObjectiveConfig())(
        speech.bfloat16().float(), images.bfloat16().float(), ids
    )
    half = MaskedInfoNCE(ObjectiveConfig())(speech.bfloat16(), images.bfloat16(), ids)
    assert torch.equal(full, half)


def test_the_learned_scale_is_bounded_unless_free():
    """Guards training against a scale that runs away, and official checkpoints against a bound."""
    bounded, free = (
        MaskedInfoNCE(ObjectiveConfig(max_logit_scale=100)),
        MaskedInfoNCE(ObjectiveConfig(max_logit_scale=0)),
    )
    for loss in (bounded, free):
        loss.log_scale.data.fill_(math.log(250))
    assert bounded.logit_scale.item() == 100
    assert free.logit_scale.item() == pytest.approx(250, rel=1e-5)


def test_a_fixed_scale_is_no_parameter_and_yet_in_the_checkpoint():
    loss = MaskedInfoNCE(ObjectiveConfig(learn_temperature=False, temperature=0.05))
    assert not list(loss.parameters()) and "log_scale" in loss.state_dict()
    assert loss.logit_scale.item() == pytest.approx(20, rel=1e-5)


def test_the_quantity_loss_is_the_mean_distance():
    quantity = torch.tensor([2.5, 4.0], requires_grad=True)
    loss = quantity_loss(quantity, torch.tensor([2, 6]))
    assert float(loss.detach()) == pytest.approx(1.25)
    loss.backward()
    assert quantity.grad.tolist() == [0.5, -0.5]


def test_repetition_is_the_share_of_pairs_that_are_one_token_and_pushes_them_apart():
    """Guards which pairs count: those of one utterance, without padding."""
    scores = torch.tensor(
        [
            [[4.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 3.0, 0.0]],  # one pair of three is alike
            [[0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [0.0, 4.0, 0.0]],  # the third is padding
        ],
        requires_grad=True,
    )
    loss = repetition_loss(scores.softmax(-1), torch.tensor([3, 2]))
    assert float(loss.detach()) == pytest.approx(1 / 6)
    loss.backward()
    assert scores.grad is not None
    assert scores.grad[0, 0, 0] > 0 and scores.grad[0, 1, 0] > 0, "both choose the same"
    assert scores.grad[0, 0, 1] > 0, "the third's token"
    assert not scores.grad[1, 2].any(), "padding"


def test_one_keyword_repeats_nothing():
    assert float(repetition_loss(torch.rand(2, 1, 5), torch.tensor([1, 1]))) == 0
