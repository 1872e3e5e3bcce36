"""Recall at k against a slow oracle, the official code's figures and chance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import retrieval_oracle as oracle

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.modules import recall as retrieval
from s3prl_speechclip.modules.recall import (
    chance_recall,
    recall_at_k,
    retrieval_ranks,
    wilson_interval,
)


def unit(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, list[int], list[int]]:
    """Small problems full of ties: few directions, many copies, ids that are no row numbers."""
    directions = draw(
        st.lists(
            st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any),
            min_size=1,
            max_size=5,
        )
    )
    pool = torch.nn.functional.normalize(torch.tensor(directions, dtype=torch.float32), dim=1)
    names = draw(st.lists(st.integers(-9, 10**12), min_size=1, max_size=6, unique=True))
    image_ids = names + draw(st.lists(st.sampled_from(names), max_size=3))
    speech_ids = names + draw(st.lists(st.sampled_from(names), max_size=8))
    image_ids, speech_ids = draw(st.permutations(image_ids)), draw(st.permutations(speech_ids))
    rows = st.integers(0, len(pool) - 1)
    speech = pool[draw(st.lists(rows, min_size=len(speech_ids), max_size=len(speech_ids)))]
    images = pool[draw(st.lists(rows, min_size=len(image_ids), max_size=len(image_ids)))]
    return speech, images, speech_ids, image_ids


@given(problems(), st.integers(1, 5))
@settings(max_examples=200)
def test_recall_agrees_exactly_with_the_oracle_whatever_the_block(problem, block_size):
    """Guards ties, repeated images, several right captions and block edges."""
    speech, images, speech_ids, image_ids = problem
    ks = (1, 2, 5, 30)
    expected = oracle.recall(speech.tolist(), images.tolist(), speech_ids, image_ids, ks)
    assert recall_at_k(speech, images, speech_ids, image_ids, ks) == expected
    in_blocks = recall_at_k(speech, images, speech_ids, image_ids, ks, block_size=block_size)
    assert in_blocks == expected


@pytest.mark.parametrize("case", ["clear", "uneven", "noisy"])
def test_recall_agrees_with_the_official_code(goldens: Path, case: str):
    """Guards the definition itself. The official percentages are float32 means: a tolerance of
    1e-5 is that rounding, and less than a hundredth of one query more or less."""
    with np.load(goldens / "retrieval.npz") as arrays:
        given = {name.split("/")[1]: arrays[name] for name in arrays if name.startswith(case)}
    expected = json.loads((goldens / "retrieval.json").read_text())[case]
    result = recall_at_k(**given)
    assert result.keys() == expected.keys()
    for direction, by_k in result.items():
        official = {
            int(name.partition("@")[2]): value for name, value in expected[direction].items()
        }
        assert by_k == pytest.approx(official, abs=1e-5)


def test_blocks_change_no_rank_of_near_ties():
    """Guards against matrix products whose last bits depend on the shape: each image comes in
    several copies and near copies, so that a last bit decides a rank."""
    images = unit(40, 33).repeat(3, 1)
    images[40:80, 0] += 6e-8
    speech = unit(200, 33, seed=1)
    speech_ids = torch.arange(200) % 120
    whole = retrieval_ranks(speech, images, speech_ids, torch.arange(120), block_size=1000)
    for block_size in (1, 7, 64, 119):
        parts = retrieval_ranks(
            speech, images, speech_ids, torch.arange(120), block_size=block_size
        )
        assert torch.equal(parts.speech_to_image, whole.speech_to_image)
        assert torch.equal(parts.image_to_speech, whole.image_to_speech)


def test_scores_are_exact_in_float64():
    """Guards the claim that all else rests on: sums on the grid never round."""
    speech = retrieval._on_grid(unit(20, 512), "speech")
    images = retrieval._on_grid(unit(20, 512, seed=1), "image")
    product = speech @ images.T
    for row in range(20):
        for column in range(20):
            exact = oracle.score([int(x) for x in speech[row]], [int(x) for x in images[column]])
            assert int(product[row, column]) == exact


def test_rounding_to_the_grid_moves_no_rank_of_ordinary_vectors():
    """Guards against a grid so coarse that it makes ties of its own."""
    speech, images = unit(400, 64), unit(300, 64, seed=1)
    ids = torch.arange(400) % 300
    scores = speech.double() @ images.double().T
    right = scores.gather(1, ids[:, None])
    expected = (scores > right).sum(1) + 1
    assert torch.equal(
        retrieval_ranks(speech, images, ids, torch.arange(300)).speech_to_image, expected
    )


def test_a_model_that_says_one_thing_of_everything_finds_nothing():
    """Guards against optimistic ties: a collapsed model would score 100."""
    same = unit(1, 8).repeat(20, 1)
    result = recall_at_k(same, same, range(20), range(20))
    assert {value for by_k in result.values() for value in by_k.values()} == {0.0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_ranks_as_the_cpu_does():
    """Guards exactness on another device's matrix products, ties included."""
    speech, images = unit(3000, 512), unit(600, 512, seed=1).repeat(2, 1)
    problem = (torch.arange(3000) % 1200, torch.arange(1200))
    here = retrieval_ranks(speech, images, *problem)
    there = retrieval_ranks(speech.cuda(), images.cuda(), *problem)
    assert torch.equal(there.speech_to_image, here.speech_to_image)
    assert torch.equal(there.image_to_speech, here.image_to_speech)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floating_types_are_taken(dtype: torch.dtype):
    speech = unit(30, 16)
    result = recall_at_k(speech.to(dtype), speech.to(dtype), range(30), range(30))
    assert result["mean"][1] == 100.0


def test_gradients_and_inputs_are_left_alone():
    """Guards in-place rounding of a caller's float64 array."""
    speech = unit(6, 4).double().requires_grad_()
    images = unit(6, 4, seed=1).double().numpy()
    before = images.copy()
    recall_at_k(speech, images, range(6), range(6))
    assert (images == before).all()
    assert speech.grad is None


def test_the_whole_matrix_is_never_made(monkeypatch: pytest.MonkeyPatch):
    """Guards memory on SpokenCOCO's 25,000 x 5,000, a gigabyte of float64 in one matrix."""
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    speech, images = unit(25_000, 16), unit(5_000, 16, seed=1)
    ids = torch.arange(25_000) % 5_000
    with Watch():
        result = recall_at_k(speech, images, ids, torch.arange(5_000))
    assert largest == 1024 * 1024  # one block of scores; the embeddings hold 400,000 numbers
    assert 0.0 < result["mean"][10] < 5.0


def broken(**changes):
    given = {
        "speech": unit(4, 8),
        "images": unit(2, 8, seed=1),
        "speech_ids": [0, 1, 0, 1],
        "image_ids": [0, 1],
    }
    return {**given, **changes}


NAN = unit(4, 8).index_fill(0, torch.tensor([2]), math.nan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speech": NAN}, "speech embeddings hold NaN or infinity in 1 of 4 rows, first row 2"),
        ({"images": unit(2, 8) * 3}, "image embeddings must be unit vectors"),
        ({"images": torch.zeros(2, 8)}, "image embeddings must be unit vectors"),
        ({"speech": unit(4, 9)}, "one width, found 9 and 8"),
        ({"speech": unit(4, 8)[0]}, r"\(number, width\) matrix, found torch.float32 \(8,\)"),
        ({"speech": torch.ones(4, 8, dtype=torch.int64)}, "must be a floating"),
        ({"speech": torch.zeros(0, 8), "speech_ids": []}, "there are no speech embeddings"),
        ({"images": np.zeros((0, 8)), "image_ids": []}, "there are no image embeddings"),
        ({"speech_ids": [0, 1, 0]}, "one speech id per embedding: 3 for 4"),
        ({"speech_ids": [0.0, 1.0, 0.0, 1.0]}, "speech ids must be a list of whole numbers"),
        ({"speech_ids": [0, 1, 0, 7]}, "a caption has no image: id 7, one of 1"),
        ({"speech_ids": [0, 0, 0, 0]}, "an image has no captions: id 1, one of 1"),
        ({"ks": (0, 1)}, "whole numbers from 1"),
        ({"ks": ()}, "whole numbers from 1"),
    ],
)
def test_bad_input_is_named_on_one_line(changes: dict, message: str):
    with pytest.raises(ResultError, match=message) as caught:
        recall_at_k(**broken(**changes))
    assert "\n" not in str(caught.value)


def test_chance_is_what_random_orders_give():
    """Guards the closed form; 4,000 rounds of 12 and more queries hold a mean to 1 %."""
    speech_ids, image_ids = [7] * 5 + [8] * 3 + [9] * 1 + [3] * 3, [7, 8, 9, 3, 7]
    for k in (1, 3, 20):
        chance = chance_recall(speech_ids, image_ids, (k,))
        to_image, to_speech = oracle.shuffled_recall(speech_ids, image_ids, k, 4000)
        assert chance["speech_to_image"][k] == pytest.approx(to_image, abs=1.0)
        assert chance["image_to_speech"][k] == pytest.approx(to_speech, abs=1.0)


def test_chance_of_flickr8k():
    """Guards large factorials, and pins the figures that a report prints."""
    ids = np.repeat(np.arange(1000), 5)
    chance = chance_recall(ids, np.arange(1000))
    assert chance["speech_to_image"] == pytest.approx({1: 0.1, 5: 0.5, 10: 1.0})
    miss = math.prod((4995 - i) / (5000 - i) for i in range(10))
    assert chance["image_to_speech"][10] == pytest.approx(100 * (1 - miss))
    assert chance["mean"][10] == pytest.approx((1.0 + 100 * (1 - miss)) / 2)


def test_wilson_interval_of_known_cases():
    """Ten hits in a hundred: Wilson's 95 % interval is 5.52 to 17.44 % (Brown et al. 2001)."""
    assert wilson_interval(10, 100) == pytest.approx((5.5229, 17.4366), abs=1e-3)
    assert wilson_interval(0, 50)[0] == 0.0
    assert wilson_interval(50, 50)[1] == 100.0


@pytest.mark.parametrize("case", [(0, 0), (5, 4), (-1, 4)])
def test_impossible_hits_are_refused(case: tuple[int, int]):
    with pytest.raises(ResultError, match="hits must be between"):
        wilson_interval(*case)
