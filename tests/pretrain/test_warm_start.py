"""A new model that begins with another one's weights, and with a given firing rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_corpus import write_flickr8k
from small_runs import arguments, run

from s3prl_speechclip.cli.pretrain import main
from s3prl_speechclip.model.config import CifConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.cif import CifWeights

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
