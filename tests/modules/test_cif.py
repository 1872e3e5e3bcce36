"""Integrate-and-fire against a frame-by-frame oracle and the official code's cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import cif_oracle

from s3prl_speechclip.model.config import CifConfig
from s3prl_speechclip.modules.cif import (
    CifWeights,
    firing_spans,
    firing_weights,
    integrate_and_fire,
    scale_to_target,
)

# Sums of up to 60 weights in float64, in another order than the oracle's.
ORDER = 1e-9
GOLDEN = 1e-4  # the goldens' own tolerance


def away_from_ties(alpha: list[float], threshold: float, tail_threshold: float) -> bool:
    """Say whether rounding can decide neither how many keywords fire nor whether a tail does."""
    total = sum(alpha) / threshold
    rest = (total - int(total)) * threshold
    return (
        1e-6 < total - int(total) < 1 - 1e-6
        and abs(rest - tail_threshold) > 1e-6
        and (total > 1 or abs(total - 1) > 1e-6)
    )


utterances = st.lists(
    st.lists(
        st.floats(0, 3, allow_subnormal=False).map(lambda a: 0.0 if a < 1e-3 else a),
        min_size=1,
        max_size=20,
    ),
    min_size=1,
    max_size=4,
)


def pad(alphas: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make random features and the padded weights, float64."""
    rows = [torch.tensor(alpha, dtype=torch.float64) for alpha in alphas]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*padded.shape, 3, generator=generator, dtype=torch.float64), padded


@given(alphas=utterances, threshold=st.sampled_from([1.0, 0.7]), cap=st.sampled_from([75, 3]))
def test_each_utterance_fires_as_frame_by_frame(alphas, threshold, cap):
    """Guards the dense weights: several firings in a frame, silence, tails, the cap, padding."""
    assume(all(sum(alpha) > 0 for alpha in alphas))
    assume(all(away_from_ties(alpha, threshold, 0.5) for alpha in alphas))
    features, alpha = pad(alphas)
    fired, lengths = integrate_and_fire(features, alpha, threshold=threshold, max_fires=cap)
    assert fired.shape[1] == lengths.max()
    for row, weights in enumerate(alphas):
        expected = cif_oracle.fire(
            features[row, : len(weights)].tolist(), weights, None, threshold, 0.5, cap
        )
        assert lengths[row] == len(expected)
        torch.testing.assert_close(
            fired[row, : len(expected)],
            torch.tensor(expected, dtype=torch.float64),
            atol=ORDER,
            rtol=0,
        )
        assert not fired[row, len(expected) :].any()


@given(alphas=utterances, targets=st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_scaled_to_targets_exactly_so_many_fire(alphas, targets):
    """Guards length scaling: neither one keyword less by rounding, nor a tail."""
    assume(all(sum(alpha) > 0 for alpha in alphas))
    features, alpha = pad(alphas)
    wanted = torch.tensor(targets[: len(alphas)])
    fired, lengths = integrate_and_fire(features, alpha, wanted)
    assert torch.equal(lengths, wanted)
    for row, weights in enumerate(alphas):
        frames = features[row, : len(weights)].tolist()
        expected = cif_oracle.fire(frames, weights, targets[row])
        torch.testing.assert_close(
            fired[row, : len(expected)],
            torch.tensor(expected, dtype=torch.float64),
            atol=ORDER,
            rtol=0,
        )


@given(
    alphas=st.lists(st.lists(st.floats(0.01, 1.5), min_size=1, max_size=6), min_size=1, max_size=3),
    scaled=st.booleans(),
    cap=st.sampled_from([75, 2]),
    unfired=st.booleans(),
)
def test_the_gradient_is_that_of_the_weights(alphas, scaled: bool, cap: int, unfired: bool):
    """Guards features' and alpha's gradients; the tail's factor carries none, as published."""
    assume(all(away_from_ties(alpha, 1.0, 0.5) for alpha in alphas))
    target = torch.tensor([len(alpha) for alpha in alphas]) if scaled else None
    features, alpha = pad(alphas)
    valid = alpha > 0
    # The weights are piecewise linear: no boundary of a keyword may lie on that of a frame, but for
    # the last one's, which scaling puts just below the end.
    reached = (scale_to_target(alpha, target) if scaled else alpha).cumsum(1)
    last = torch.arange(alpha.shape[1]) >= valid.sum(1, keepdim=True) - 1
    assume(bool((((reached - reached.round()).abs() > 1e-4) | (last & scaled)).all()))

    def fire(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        # Without a tail, whose factor gradcheck would see, and without padding's alpha.
        return integrate_and_fire(
            x, a * valid, target, max_fires=cap, keep_tail=False, keep_unfired=unfired
        )[0]

    assert torch.autograd.gradcheck(fire, (features.requires_grad_(), alpha.requires_grad_()))


@given(alphas=utterances, threshold=st.sampled_from([1.0, 0.6]))
def test_spans_are_in_order_inside_the_utterance(alphas, threshold: float):
    """Guards times of any firing: each begins where the one before ends, inside the speech."""
    assume(all(away_from_ties(alpha, threshold, 0.5) for alpha in alphas))
    _, alpha = pad(alphas)
    frames = torch.tensor([len(weights) for weights in alphas])
    _, lengths = firing_weights(alpha, threshold=threshold)
    spans = firing_spans(alpha, lengths, frames, threshold) / 0.02
    for row, count in enumerate(lengths.tolist()):
        own = spans[row, :count]
        assert own[0, 0] == 0 and own[-1, 1] <= frames[row] + 1e-3
        assert (own[:, 1] >= own[:, 0] - 1e-4).all() and torch.equal(own[1:, 0], own[:-1, 1])
        assert not spans[row, count:].any()


def test_silence_fires_once_and_leaves_gradients_finite():
    """Guards against dividing by the sum of an alpha that is zero."""
    alpha = torch.zeros(1, 5, requires_grad=True)
    fired, lengths = integrate_and_fire(torch.ones(1, 5, 2), alpha, torch.tensor([2]))
    assert lengths.tolist() == [1]
    fired.sum().backward()
    assert fired.isfinite().all() and alpha.grad.isfinite().all()


def test_what_has_not_fired_is_kept_only_on_request():
    """Guards the official code's switch: padded keywords are zero without it."""
    alpha = torch.full((2, 6), 0.6)
    alpha[1, 3:] = 0
    dropped = firing_weights(alpha, keep_tail=False)
    kept = firing_weights(alpha, keep_tail=False, keep_unfired=True)
    assert torch.equal(dropped[1], kept[1])
    assert not dropped[0][1, 1:].any()
    torch.testing.assert_close(kept[0][1].sum(), alpha[1].sum())


def test_shapes_that_do_not_go_together_are_an_error():
    with pytest.raises(ValueError, match=r"\(2, 4, 3\) and \(2, 5\)"):
        integrate_and_fire(torch.zeros(2, 4, 3), torch.zeros(2, 5))


def test_the_official_cases_hold(goldens: Path):
    """Every case of the official code, the one that hits the cap among them."""
    cases = np.load(goldens / "cif.npz")
    names = sorted({name.rpartition("/")[0] for name in cases.files})
    assert names
    for name in names:
        case = {
            k.rpartition("/")[2]: torch.from_numpy(cases[k])
            for k in cases.files
            if k.startswith(name + "/")
        }
        fired, lengths = integrate_and_fire(case["x"], case["alpha"], case.get("target_lengths"))
        assert torch.equal(lengths, case["out_lengths"]), name
        for row, length in enumerate(lengths):
            torch.testing.assert_close(
                fired[row, :length], case["out"][row, :length], atol=GOLDEN, rtol=0, msg=name
            )


def test_spans_follow_the_firings():
    """Guards times: a keyword begins where the one before ends, and none outlasts the speech."""
    alpha = torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.3, 0.4], [0.9, 0.9, 0.9, 0.0, 0.0, 0.0]])
    spans = firing_spans(alpha, firing_weights(alpha)[1], torch.tensor([6, 3]))
    # Totals 3.2 and 2.7: three and no tail, two and a tail. Frames of 20 ms; the second keyword of
    # the first utterance is full half-way through the fourth frame.
    frames = spans / 0.02
    torch.testing.assert_close(
        frames[0], torch.tensor([[0.0, 2.0], [2.0, 3.5], [3.5, 5.5]]), atol=1e-5, rtol=0
    )
    assert frames[1, 0, 0] == 0 and frames[1, 2, 1] == 3
    assert (spans[:, :, 1] >= spans[:, :, 0]).all()
    torch.testing.assert_close(spans[:, 1:, 0], spans[:, :-1, 1])


def test_spans_of_the_capped_end_with_their_firing():
    """Guards the last of 75 keywords against lasting to the end of a long recording."""
    alpha = torch.full((1, 200), 1.0)
    spans = firing_spans(alpha, firing_weights(alpha)[1], torch.tensor([200]))
    assert spans.shape == (1, 75, 2)
    torch.testing.assert_close(spans[0, -1], torch.tensor([74 * 0.02, 75 * 0.02]))


def test_weights_lie_between_zero_and_one_and_vanish_on_padding():
    network = CifWeights(8, CifConfig(conv_width=3, conv_layers=2))
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    alpha = network(torch.randn(2, 5, 8), padding)
    assert ((alpha >= 0) & (alpha <= 1)).all() and not alpha[padding].any()


@pytest.mark.parametrize("reads", [False, True])
def test_weights_depend_on_padding_only_as_configured(reads: bool):
    """Guards the switch between the official convolution and one that reads an utterance alone."""
    network = CifWeights(8, CifConfig(conv_width=5, conv_layers=2), read_padding=reads)
    features = torch.randn(1, 9, 8)
    padding = torch.arange(9).unsqueeze(0) >= 4
    alpha = network.eval()(features, padding)[:, :4]
    alone = network(features[:, :4], padding[:, :4])
    assert torch.allclose(alpha, alone, atol=1e-6) is not reads
