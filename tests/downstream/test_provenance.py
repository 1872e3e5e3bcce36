"""The upstream's weights: recorded, reused, and refused where they are not what a result says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from downstream_runs import SMALL, ask
from small_models import small_model
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from s3prl_speechclip.downstream.plan import count, has_size, resolve
from s3prl_speechclip.downstream.request import Request
from s3prl_speechclip.downstream.run import run
from s3prl_speechclip.downstream.task import find_task
from s3prl_speechclip.downstream.upstreams import load_upstream
from s3prl_speechclip.encoders.shipped import ASSETS
from s3prl_speechclip.errors import CheckpointError, ConfigError
from s3prl_speechclip.pretrain.config import resolve_config, write_config

Write = Callable[[str], Path]
CPU = torch.device("cpu")
NAME = "speechclip_parallel"
SETTINGS = (
    "runner.total_steps=2,,runner.eval_step=2,,runner.num_workers=0,,"
    "downstream_expert.datarc.train_batch_size=4"
)


def pretrained(name: str, seed: int) -> None:
    """Write a pretraining run, the newest of the working directory."""
    folder = Path("result") / "pretrain" / name
    small_model(NAME, seed=seed).save_pretrained(folder / "last")
    write_config(folder / "config.yaml", resolve_config(NAME))


@pytest.fixture
def request_on_a(write_corpus: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A probe on the newest pretraining run, which is A now and B after it was trained."""
    root = write_corpus("fluent_commands")
    monkeypatch.chdir(tmp_path)
    pretrained("a", seed=1)
    request = Request(
        task="ic",
        upstream=NAME,
        data_root=str(root),
        folder=tmp_path / "probe",
        override=SETTINGS,
        device="cpu",
    )
    return request


def test_an_evaluation_measures_the_upstream_that_the_probe_was_trained_on(request_on_a: Request):
    """Guards against A's head on B's features, stored as B's result."""
    first = run(request_on_a).result
    pretrained("b", seed=2)
    again = run(Request(past=request_on_a.folder, evaluate=True, device="cpu")).result
    assert first is not None and again is not None
    assert again.checkpoint_hash == first.checkpoint_hash
    assert again.metrics == first.metrics
    longer = request_on_a.override.replace("total_steps=2", "total_steps=4")
    resumed = run(replace(request_on_a, override=longer, auto_resume=True)).result
    assert resumed is not None and resumed.checkpoint_hash == first.checkpoint_hash


def test_other_weights_are_refused(request_on_a: Request):
    """Guards -k, and weights that were replaced in their place."""
    run(request_on_a)
    pretrained("b", seed=2)
    past = Request(past=request_on_a.folder, evaluate=True, device="cpu")
    with pytest.raises(CheckpointError, match="was trained on the upstream"):
        run(replace(past, checkpoint="result/pretrain/b"))
    pretrained("a", seed=3)
    with pytest.raises(CheckpointError, match="was trained on the upstream"):
        run(past)


def test_weights_that_are_gone_are_asked_for(request_on_a: Request):
    run(request_on_a)
    pretrained("b", seed=2)
    moved = Path("result/pretrain/a").rename("moved")
    past = Request(past=request_on_a.folder, evaluate=True, device="cpu")
    with pytest.raises(CheckpointError, match="does not exist any more; give it with -k"):
        run(past)
    assert run(replace(past, checkpoint=str(moved))).result is not None


def test_weights_that_an_upstream_ignores_are_refused(tmp_path: Path):
    """Guards a result against naming weights that nothing read."""
    path = tmp_path / "any.pt"
    torch.save({}, path)
    for given in (path, tmp_path / "missing.pt"):
        with pytest.raises(ConfigError, match="-u fbank does not read"):
            load_upstream("fbank", str(given), None, CPU)


def test_missing_weights_are_named():
    """Guards against an error of s3prl's without a word."""
    with pytest.raises(ConfigError, match="no file or folder 'missing', which -u hubert_local"):
        load_upstream("hubert_local", "missing", None, CPU)


@pytest.mark.parametrize(
    ("name", "given", "model"),
    [
        ("speechclip_plus", "mini", "speechclip_plus"),
        ("speechclip_plus", "speechclip_plus", "speechclip_plus"),
        ("speechclip_encoder", "mini", "speechclip_hybrid"),
        ("speechclip_encoder", "speechclip_plus", "speechclip_plus"),
    ],
)
def test_the_shipped_models_have_names(
    name: str, given: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Guards -k mini against being looked for on the Hub, and against a newer run."""
    monkeypatch.chdir(tmp_path)
    pretrained("newest", seed=1)
    assert load_upstream(name, given, None, CPU).source == str(ASSETS / model)


def test_half_precision_weights_are_used(tmp_path: Path):
    """Guards `-u hf_hubert_custom`: the shipped mini HuBERT is stored as float16; and transformers
    5 leaves the final layer norm out of the last state, which s3prl's own runner has."""
    folder = shutil.copytree(ASSETS / "hubert", tmp_path / "hubert")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    upstream = load_upstream("hf_hubert_custom", str(folder), None, CPU)
    model = HubertModel.from_pretrained(folder, dtype=torch.float32).eval()
    wav = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = upstream.module([wav])["hidden_states"]
        output = model(wav[None], output_hidden_states=True)
    wanted = (*output.hidden_states[:-1], output.last_hidden_state)
    assert len(upstream.digest) == 64
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", sorted({*SMALL, "quesst14_dtw"}))
def test_a_corpus_of_another_size_has_not_the_published_name(
    task: str, write_corpus: Write, tmp_path: Path
):
    """Guards the tables against a user's own recordings in the layout of a published corpus."""
    root = write_corpus(task)
    layout = find_task(task).layout
    request = ask(task, root, tmp_path / "run")
    assert layout is not None
    assert resolve(request).data.corpus == f"own ({layout.title} layout)"
    # The same files, were they all that was published.
    found = {names: sum(count(root, n) for n in names.split("|")) for names in layout.published}
    assert has_size(root, found) and not has_size(root, {n: 2 * s for n, s in found.items()})
