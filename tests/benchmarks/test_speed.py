"""How fast a model is: measured on real recordings, without changing it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_corpus import write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.errors import ConfigError


def test_speed_is_of_the_batch_it_says(tmp_path: Path) -> None:
    """Guards rates against another count of recordings, and the model against being trained."""
    manifest = load_corpus("flickr8k", write_flickr8k(tmp_path / "corpus"))
    model = small_model("speechclip_hybrid_plus")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = evaluate(model, "speed", corpus=manifest, batch_size=6, repetitions=2)
    training, encoding = result.metrics["training"], result.metrics["encoding"]
    assert training["examples_per_second"] * training["seconds_per_step"] == pytest.approx(
        6, rel=1e-2
    )
    # The corpus' recordings last 0.3 to 0.6 s.
    assert 0.3 < encoding["times_real_time"] / encoding["recordings_per_second"] < 0.6
    assert result.protocol["batch_size"] == 6 and result.protocol["device"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="--repetitions must be at least 1"):
        evaluate(model, "speed", corpus=manifest, repetitions=0)
