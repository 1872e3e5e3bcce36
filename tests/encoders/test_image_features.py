"""The cache of CLIP's image features: what is not what was written is computed again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_corpus import write_flickr8k
from small_models import small_config, small_model

from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.encoders.clip import image_trunk
from s3prl_speechclip.encoders.image_features import _key, load_image_table
from s3prl_speechclip.hashing import state_hash


@pytest.mark.parametrize("fault", ["none", "changed", "cut", "another user's"])
def test_only_what_was_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, fault: str
) -> None:
    """Fault: features that someone else or a bad disk changed, taken for the images'."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    manifest = load_corpus("flickr8k", write_flickr8k(tmp_path / "corpus", train=2, dev=1, test=1))
    clip = small_model("speechclip_parallel").clip

    def features() -> torch.Tensor:
        table, _ = load_image_table(
            clip, manifest, ["train"], skip_broken=False, show_progress=False
        )
        return table.features

    computed = features()
    (cache,) = (tmp_path / "cache" / "image_features").glob("*.safetensors")
    if fault == "changed":
        save_file({"features": load_file(cache)["features"] + 1}, cache)
    elif fault == "cut":
        os.truncate(cache, cache.stat().st_size - 8)
    elif fault == "another user's":
        owner = cache.stat().st_uid
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        if owner == 0:
            os.chown(cache, 4321, -1)
    assert torch.equal(features(), computed)
    assert ("is computed again" in caplog.text) == (fault != "none")


def test_another_activation_has_features_of_its_own(tmp_path: Path) -> None:
    """Fault: what is no weight, such as QuickGELU, is left out of what features are known by."""
    manifest = load_corpus("flickr8k", write_flickr8k(tmp_path / "corpus", train=2, dev=1, test=1))
    paths = [manifest.path(utterance.image) for utterance in manifest.utterances]
    models = [
        small_model(
            "speechclip_parallel",
            clip=replace(small_config("speechclip_parallel").clip, quick_gelu=quick),
        )
        for quick in (True, False)
    ]
    states = [state_hash(image_trunk(model.clip.clip).state_dict()) for model in models]
    assert states[0] == states[1]
    assert _key(models[0].clip, paths) != _key(models[1].clip, paths)
