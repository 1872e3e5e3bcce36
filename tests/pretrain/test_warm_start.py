"""A new model that begins with another one's weights, and with a given firing rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_corpus import write_flickr8k
from small_models import small_model
from small_runs import arguments, run

from s3prl_speechclip.cli.pretrain import main
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.model.config import CifConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.cif import CifWeights
from s3prl_speechclip.pretrain.config import PretrainConfig, resolve_config
from s3prl_speechclip.pretrain.corpus import load_manifest
from s3prl_speechclip.pretrain.train import _build_model, _trains_from_random

STILL = "optimizer.lr=1e-12"  # a step that changes nothing that is seen


def test_the_keyword_head_of_another_model_is_taken(tmp_path: Path, capsys):
    """Guards against a warm start that silently takes nothing, or more than was asked for."""
    corpus = write_flickr8k(tmp_path / "flickr8k")
    cls, cif = tmp_path / "cascaded", tmp_path / "plus"
    run(*arguments(corpus, cls, 2, "-u", "speechclip_cascaded"))
    options = ["-u", "speechclip_plus", "-i", str(cls), "--seed", "1"]
    run(*arguments(corpus, cif, 1, *options, overrides=f"{STILL},,init_parts=[branch.head]"))
    given, found = (SpeechClip.from_pretrained(path).state_dict() for path in (cls, cif))
    shared = [name for name in given if name in found and name.startswith("branch.")]
    taken = {n for n in shared if torch.allclose(given[n], found[n], rtol=0, atol=1e-6)}
    weights = {n for n in taken if n.endswith("weight") and found[n].unique().numel() > 1}
    assert weights and all(name.startswith("branch.head.") for name in weights)
    options += ["-p", str(tmp_path / "none")]
    assert main([*arguments(corpus, cif, 1, *options, overrides="init_parts=[branch.haed]")]) == 2
    assert "shares no weight of branch.haed" in capsys.readouterr().err


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_a_new_weight_network_fires_at_the_rate_that_is_set(alpha: float):
    """Guards the logit: frames without features have exactly the weight that was asked for."""
    network = CifWeights(8, CifConfig(initial_alpha=alpha)).eval()
    for convolution in network.convolutions:
        torch.nn.init.zeros_(convolution.bias)
    found = network(torch.zeros(1, 5, 8), torch.zeros(1, 5, dtype=torch.bool))
    torch.testing.assert_close(found, torch.full((1, 5), alpha))


def test_a_fixed_temperature_is_the_configurations(tmp_path: Path):
    """Guards against a temperature that comes along with the weights, whatever was set."""
    config = resolve_config(
        "speechclip_words",
        model={"keywords": {"temperature": 0.5}, "objective": {"temperature": 0.02}},
    )
    assert config.init == "speechclip_hybrid"
    manifest = load_manifest(resolve_config("speechclip_words"))
    model = _build_model(config, manifest, None)
    assert float(model.branch.head.quantizer.temperature) == 0.5
    assert float(model.contrast.logit_scale) == pytest.approx(50.0)
    again = replace(config.model, objective=replace(config.model.objective, temperature=0.05))
    resumed = _build_model(replace(config, model=again), manifest, model.stored())
    assert float(resumed.contrast.logit_scale) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("changes", "random"),
    [
        ({}, True),
        ({"model": {"speech_encoder": {"pretrained": True}}}, False),
        ({"init": "speechclip_hybrid", "init_parts": ["speech_encoder"]}, False),
        ({"init": "speechclip_hybrid"}, True),
        ({"model": {"speech_encoder": {"trainable": False}}}, False),
    ],
)
def test_the_spectrum_is_learned_from_random_weights_alone(changes, random: bool):
    """Guards a trained encoder's convolutions against being fitted to log-mel energies."""
    config = resolve_config("speechclip_hybrid", "mini_scratch", **changes)
    assert _trains_from_random(config) == random


def test_a_resumed_run_has_the_encoder_of_its_checkpoint(tmp_path: Path):
    """Guards against the preset's architecture under the weights of another encoder."""
    stored = small_model("speechclip_parallel").stored()
    other = replace(
        stored.config.speech_encoder,
        architecture={**stored.config.speech_encoder.architecture, "num_attention_heads": 8},
    )
    config = PretrainConfig(model=replace(stored.config, speech_encoder=other))
    model = _build_model(config, Manifest(corpus="none", root=tmp_path, utterances=()), stored)
    assert model.speech_encoder.model.config.num_attention_heads == 4
    named = replace(other, name="facebook/hubert-base-ls960", pretrained=True)
    config = PretrainConfig(model=replace(stored.config, speech_encoder=named))
    model = _build_model(config, Manifest(corpus="none", root=tmp_path, utterances=()), stored)
    # The checkpoint holds its encoder, which no other may stand for when it is loaded again.
    kept = model.config.speech_encoder
    assert (kept.name, kept.pretrained) == (stored.config.speech_encoder.name, False)


def test_another_encoder_than_the_checkpoints_is_refused(tmp_path: Path, capsys):
    """Guards against a checkpoint that names an encoder whose weights it never had."""
    small_model("speechclip_parallel").save_pretrained(tmp_path / "model")
    folder = tmp_path / "hubert"
    folder.mkdir()
    given = ["-e", str(tmp_path / "model"), "--hubert", str(folder), "--dry-run"]
    assert main(given) == 2
    assert "--hubert: the checkpoint holds its own" in capsys.readouterr().err


def test_a_files_model_section_is_read(tmp_path: Path, capsys):
    """Guards `-g FILE` against a variant, or settings, that nobody reads."""
    path = tmp_path / "mine.yaml"
    path.write_text("model: {variant: speechclip_plus, objective: {margin: 0.2}}\n", "utf-8")
    assert main(["-g", str(path), "--dry-run"]) == 0
    assert "variant: speechclip_plus" in capsys.readouterr().out
    small_model("speechclip_plus").save_pretrained(tmp_path / "model")
    assert main(["-e", str(tmp_path / "model"), "-g", str(path), "--dry-run"]) == 0
    assert "margin: 0.2" in capsys.readouterr().out


def test_a_shipped_model_is_a_checkpoint_by_its_name(capsys):
    """Guards `-e NAME` against a download of what the package ships."""
    assert main(["-e", "speechclip_parallel", "--dry-run"]) == 0
    assert "variant: speechclip_parallel" in capsys.readouterr().out
