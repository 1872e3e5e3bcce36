"""Checkpoint folders."""

from __future__ import annotations

import json

import pytest
import torch
from small_models import small_config

from s3prl_speechclip.checkpoints.locate import find_checkpoint
from s3prl_speechclip.checkpoints.native import StoredModel, read_checkpoint, write_checkpoint
from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.hashing import state_hash


def stored(**about: object) -> StoredModel:
    state = {
        "a": torch.randn(3, 2),
        "clip.vocabulary": torch.arange(4),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(2).half(),
        "strided": torch.randn(3, 4).T,
    }
    config = small_config("speechclip_hybrid_plus")
    return StoredModel(config, state, {"clip": "abc"}, {"corpus": "stamps", **about})


def test_what_is_written_is_read(tmp_path):
    """Guards configuration, weights, hashes and provenance, to the bit."""
    model = stored(recall={"R@1": 12.5}, spoken="日本語")
    write_checkpoint(tmp_path / "new" / "folder", model)
    again = read_checkpoint(tmp_path / "new" / "folder")
    assert (again.config, again.encoders, again.about) == (
        model.config,
        model.encoders,
        model.about,
    )
    for name, value in model.state.items():
        assert torch.equal(value, again.state[name]) and value.dtype == again.state[name].dtype


def test_writing_again_leaves_no_half_files(tmp_path):
    """Guards a checkpoint that is replaced while it is being read."""
    for _ in range(2):
        write_checkpoint(tmp_path, stored())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_is_for_matrices(tmp_path):
    """Guards models that are given away: half the bytes, and no variance rounded to zero."""
    model = stored()
    model.state["variance"] = torch.tensor([1e-9, 3.0])
    write_checkpoint(tmp_path, model, half=True)
    again = read_checkpoint(tmp_path).state
    assert again["a"].dtype == again["strided"].dtype == torch.float16
    torch.testing.assert_close(again["a"].float(), model.state["a"], rtol=2**-11, atol=0)
    for name in ("variance", "scalar", "clip.vocabulary"):
        assert torch.equal(again[name], model.state[name])
        assert again[name].dtype == model.state[name].dtype


def test_a_weight_beyond_half_precision_is_named(tmp_path):
    """Guards against a model that is given away with infinities in it."""
    model = stored()
    model.state["a"][0, 0] = 1e6
    with pytest.raises(CheckpointError, match="'a' do not fit float16"):
        write_checkpoint(tmp_path, model, half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_folder_is_an_error_of_one_line(tmp_path, name: str, damage: str):
    """Guards interrupted copies."""
    write_checkpoint(tmp_path, stored())
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 20 if damage == "cut" else 0])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 99}, "format 99"),
        ({"model": {"variannt": "speechclip_plus"}}, "did you mean 'variant'"),
        ({"model": {"size": "huge"}}, "model.size"),
        ({"model": [1]}, "cannot be read"),
        ("[1, 2]", "expected an object"),
        ("null", "expected an object"),
        ("{}", "expected an object"),
        ("[" * 100_000, "maximum recursion depth"),
        ("<html>404</html>", "cannot be read"),
    ],
)
def test_a_configuration_of_another_kind_says_so(tmp_path, change, named: str):
    write_checkpoint(tmp_path, stored())
    path = tmp_path / "config.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    with pytest.raises(CheckpointError, match=named) as caught:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_experiment_folder_means_its_best_checkpoint(tmp_path):
    write_checkpoint(tmp_path / "last", stored())
    assert find_checkpoint(tmp_path) == tmp_path / "last"
    write_checkpoint(tmp_path / "best", stored())
    assert find_checkpoint(tmp_path) == tmp_path / "best"
    assert find_checkpoint(tmp_path / "last") == tmp_path / "last"
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path / "nowhere")


def test_the_hash_is_of_names_types_shapes_and_values():
    """Guards the identity of frozen encoders that a checkpoint only names."""
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    same = {"b": torch.ones(2), "a": torch.arange(6.0)}
    assert state_hash(state) == state_hash(same)
    for other in (
        {**state, "a": torch.arange(6.0).view(2, 3)},
        {**state, "a": torch.arange(6)},
        {**state, "a": torch.arange(6.0) + 1e-6},
        {"c": state["a"], "b": state["b"]},
    ):
        assert state_hash(other) != state_hash(state)
    assert state_hash({"s": torch.tensor(1.0)}) != state_hash({"s": torch.tensor(2.0)})


def test_a_checkpoint_without_vocabulary_is_incomplete():
    model = stored()
    broken = StoredModel(model.config, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"lack 'clip\.vocabulary'"):
        _ = broken.vocabulary
