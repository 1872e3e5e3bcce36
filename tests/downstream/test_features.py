"""The choice of features, and the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import small_model
from torch import nn

from s3prl_speechclip.downstream.cache import FeatureCache
from s3prl_speechclip.downstream.upstreams import check_selection, load_upstream
from s3prl_speechclip.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    folder = tmp_path_factory.mktemp("model")
    small_model("speechclip_hybrid").save_pretrained(folder)
    return load_upstream("speechclip_hybrid", str(folder), None, CPU).module


def recordings(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.1 * random.standard_normal(n).astype(np.float32) for n in lengths]


def cache(upstream: nn.Module, layer: int | None = None, budget: int = 10**9) -> FeatureCache:
    return FeatureCache(upstream, "hidden_states", layer, 320, torch.float32, budget)


@pytest.mark.parametrize("budget", [10**9, 0, 30_000])
def test_kept_features_are_the_upstreams(upstream, budget):
    """Guards each frame of each layer, when first computed, when kept, and beyond the budget."""
    wavs = recordings(8000, 3200, 12_345)
    with torch.no_grad():
        alone = [upstream([torch.from_numpy(wav)])["hidden_states"] for wav in wavs]
    kept = cache(upstream, budget=budget)
    for order in ([0, 1, 2], [2, 0], [1]):
        found = kept([wavs[place] for place in order], CPU)["hidden_states"]
        assert len(found) == len(alone[0])
        for row, place in enumerate(order):
            frames = round(len(wavs[place]) / 320)
            for layer, states in enumerate(found):
                assert torch.equal(states[row, :frames], alone[place][layer][0, :frames])


def test_one_layer_is_kept_as_s3prl_picks_it(upstream):
    """Guards -l: s3prl's featurizer takes the state at that place of a list of all."""
    wavs = recordings(6400)
    every = cache(upstream)(wavs, CPU)["hidden_states"]
    one = cache(upstream, layer=-2)(wavs, CPU)["hidden_states"]
    assert len(one) == len(every)
    assert torch.equal(one[-2], every[-2])


def test_a_recording_is_encoded_once(upstream):
    """Guards the point of the cache."""
    calls = []
    handle = upstream.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    kept = cache(upstream)
    for _ in range(3):
        kept(recordings(4000, 5000), CPU)
    handle.remove()
    assert len(calls) == 2


def test_an_unknown_feature_is_an_error(upstream):
    """Guards against s3prl's habit to take hidden_states instead."""
    with pytest.raises(ConfigError, match="did you mean 'last_hidden_state'"):
        check_selection(upstream, "last_hidden_states", None, CPU)


def test_an_embedding_is_no_frames(upstream):
    with pytest.raises(ConfigError, match="gives no frames"):
        check_selection(upstream, "parallel", None, CPU)


def test_a_layer_that_is_not_there_is_an_error(upstream):
    assert check_selection(upstream, "hidden_states", None, CPU) == 4
    with pytest.raises(ConfigError, match="from -4 to 3"):
        check_selection(upstream, "hidden_states", 4, CPU)
