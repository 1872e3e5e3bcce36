"""Presets, user files and overrides of a pretraining run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import VARIANTS
from s3prl_speechclip.pretrain.config import (
    PRESETS,
    change_config,
    read_config,
    resolve_config,
    write_config,
)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_serves_every_model(preset: str, variant: str) -> None:
    """Guards against a preset key that the configuration does not know."""
    config = resolve_config(variant, preset)
    assert config.model.variant == variant
    sizes = {"mini_scratch": "mini", "slides": "base", "slides_mini": "mini"}
    assert config.model.size == sizes.get(preset, preset)


def test_base_is_the_papers_set_up() -> None:
    """Guards against a default that drifts from what was published (SpeechCLIP, section 4.1)."""
    config = resolve_config("speechclip_cascaded", "base")
    assert (config.runner.total_steps, config.runner.gradient_clipping) == (50_000, 4.0)
    assert (config.optimizer.name, config.optimizer.lr) == ("adam", 1e-4)
    assert config.optimizer.weight_decay == 1e-6
    assert (config.scheduler.warmup_steps, config.scheduler.final_lr) == (5_000, 1e-8)
    assert (config.data.batch_size, config.data.max_samples) == (256, 102_400)
    assert config.model.keywords.number == 8
    assert config.model.keywords.temperature == 0.1
    assert config.model.cif.quantity_weight == 0.25
    assert config.model.cif.scaling_steps == 5_000


def test_large_projects_keywords_in_two_layers() -> None:
    """Guards the 1024-1024-768 projection of the large models."""
    assert resolve_config("speechclip_hybrid_plus", "large").model.keywords.projection == (1024,)


@pytest.mark.parametrize("preset", ["slides", "slides_mini"])
def test_the_slides_set_up_stands_on_another(preset: str) -> None:
    """Guards the early set-up: what it changes, and that the rest is the preset's below."""
    config = resolve_config("speechclip_cascaded", preset)
    below = resolve_config("speechclip_cascaded", "base" if preset == "slides" else "mini")
    assert config.data.batch_size == 240
    assert (config.model.objective.temperature, config.model.objective.learn_temperature) == (
        0.1,
        False,
    )
    assert config.model.keywords.norm == "none"
    assert config.model.keywords.number == (8 if preset == "slides" else 4)
    assert config.model.objective.repetition_weight == 0
    assert config.model.speech_encoder == below.model.speech_encoder
    assert config.runner == below.runner


def test_the_mini_preset_trains_the_branch_alone() -> None:
    """Guards the papers' set-up in miniature: both encoders are shipped and frozen."""
    model = resolve_config("speechclip_hybrid", "mini").model
    for encoder in (model.speech_encoder, model.clip):
        assert encoder.name == "mini" and encoder.pretrained and not encoder.trainable
    scratch = resolve_config("speechclip_hybrid", "mini_scratch").model
    assert not scratch.speech_encoder.pretrained and scratch.clip.trainable


def test_another_corpus_is_trained_on_alone() -> None:
    """Guards against emoji in a run on Flickr8k because a past run added them to the stamps."""
    past = resolve_config("speechclip_plus", "mini", "data.also=[named_pictures]")
    changed = {"data": {"corpus": "flickr8k"}}
    assert change_config(past, "runner.total_steps=5").data.also == ("named_pictures",)
    assert change_config(past, changes=changed).data.also == ()
    assert change_config(past, "data.corpus=flickr8k").data.also == ()
    asked = "data.corpus=flickr8k,,data.also=[named_pictures]"
    assert change_config(past, asked).data.also == ("named_pictures",)


def test_the_mini_recipe_charges_repeated_keywords() -> None:
    """Guards the shipped models' recipe: keywords, corpora and the cost of repetition."""
    costs = {"hybrid": 1, "plus": 2, "words": 0}
    for name, cost in costs.items():
        config = resolve_config(f"speechclip_{name}", "mini")
        assert config.model.objective.repetition_weight == cost
        assert config.model.keywords.number == 2
        assert config.data.also == ()


@pytest.mark.parametrize("choice", ["auto", "on", "off"])
def test_yaml_reads_on_and_off_as_the_words(tmp_path: Path, choice: str) -> None:
    """Guards against YAML's truth values in a file and in an override."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"data:\n  cache_features: {choice}\n")
    assert resolve_config("speechclip_plus", str(path)).data.cache_features == choice
    override = f"data.cache_features={choice}"
    assert resolve_config("speechclip_plus", "mini", override).data.cache_features == choice


def test_a_file_lies_over_the_preset_that_it_names(tmp_path: Path) -> None:
    """Guards against a user's file that silently starts from another preset."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"preset": "base", "runner": {"total_steps": 7}}))
    config = resolve_config("speechclip_plus", str(path), "runner.log_step=3")
    assert (config.model.size, config.runner.total_steps, config.runner.log_step) == ("base", 7, 3)


def test_a_written_configuration_reads_back_the_same(tmp_path: Path) -> None:
    """Guards against a value that YAML turns into another."""
    config = resolve_config("speechclip_hybrid", "mini", "optimizer.lr=3e-4", seed=5)
    write_config(tmp_path / "config.yaml", config)
    assert read_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("speechclip_hybird",), "speechclip_hybrid"),
        (("speechclip_hybrid", "lagre"), "large"),
        (("speechclip_hybrid", "mini", "runner.total_step=5"), "total_steps"),
        (("speechclip_hybrid", "mini", "runner.total_steps=0"), "at least 1"),
        (("speechclip_hybrid", "mini", "runner.precision=fp8"), "bf16"),
        (("speechclip_hybrid", "mini", "optimizer.lr=-1"), "above 0"),
        (("speechclip_hybrid", "mini", "optimizer.eps=-1"), "above 0"),
        (("speechclip_hybrid", "mini", "seed=4294967296"), "0 to 4294967295"),
        (("speechclip_hybrid", "mini", "data.batch_size=many"), "whole number"),
        (("speechclip_hybrid", "mini", "data.batch_size=0"), "at least 1"),
        (("speechclip_hybrid", "mini", "data.max_samples=0"), "at least 400"),
        (("speechclip_hybrid", "mini", "data.num_workers=-1"), "at least 0"),
        (("speechclip_hybrid", "mini", "optimizer.weight_decay=-1"), "0 or more"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: tuple[str, ...], said: str) -> None:
    """Guards against a typing error that is ignored or ends in a traceback."""
    with pytest.raises(ConfigError, match=said):
        resolve_config(*arguments)
