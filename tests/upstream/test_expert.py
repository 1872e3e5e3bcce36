"""Upstreams: what s3prl's tasks get of a model, whatever else is in the batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_model, waveforms
from torch import Tensor

from s3prl_speechclip.errors import AudioError, CheckpointError, ConfigError
from s3prl_speechclip.model.config import VARIANTS
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.pretrain.config import resolve_config, write_config
from s3prl_speechclip.upstream.speechclip import hubconf
from s3prl_speechclip.upstream.speechclip.expert import UpstreamExpert

HOP = 320  # samples a frame
FAMILIES = ("hubert-base", "hubert-large")
Save = Callable[[str, str], Path]
Load = Callable[[str, str], UpstreamExpert]


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Write the checkpoint of a small model, each once."""

    @cache
    def saved(variant: str, family: str) -> Path:
        folder = tmp_path_factory.mktemp("models") / "model"
        small_model(variant, family).save_pretrained(folder)
        return folder

    return saved


@pytest.fixture(scope="module")
def load(save: Save) -> Load:
    """Make an upstream of a small model, each once; not to be changed."""
    return cache(lambda variant, family: UpstreamExpert(save(variant, family), name=variant))


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


def alone_and_together(upstream: UpstreamExpert, wavs: list[Tensor]) -> tuple[float, float]:
    """Give the largest difference between batched and alone: of frames, and of embeddings."""
    batched = upstream(wavs)
    frames = embeddings = 0.0
    for row, wav in enumerate(wavs):
        alone = upstream([wav])
        for one, many in zip(alone["hidden_states"], batched["hidden_states"], strict=True):
            difference = (many[row, : one.shape[1]] - one[0]).abs().max()
            frames = max(frames, float(difference))
        for name in {"parallel", "cascaded"} & alone.keys():
            difference = (batched[name][row] - alone[name][0]).abs().max()
            embeddings = max(embeddings, float(difference))
    return frames, embeddings


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 6_000), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_recording_does_not_depend_on_its_batch(
    load: Load, family: str, lengths: list[int], seed: int
) -> None:
    """Fault: HuBERT Base's group norm reads the padding; frame counts end in padding.

    1e-5 is what sums in another order cost in single precision.
    """
    upstream = load("speechclip_hybrid_plus", family)
    frames, _ = alone_and_together(upstream, waveforms(*lengths, seed=seed))
    assert frames < 1e-5


def test_every_model_is_batch_invariant(load: Load, variant: str) -> None:
    """Fault: one of the branches reads padding."""
    upstream = load(variant, "hubert-base")
    frames, embeddings = alone_and_together(upstream, waveforms(5_000, 700, 3_333))
    assert frames < 1e-5
    assert embeddings < 1e-5


@pytest.mark.parametrize("stored", [True, False])
def test_the_checkpoints_own_setting_holds_at_both_doors(tmp_path: Path, stored: bool) -> None:
    """Fault: the same checkpoint gives other features as an upstream than as a model."""
    model = small_model("speechclip_hybrid", batch_invariant=stored)
    model.save_pretrained(tmp_path / "model")
    upstream = UpstreamExpert(tmp_path / "model")
    loaded = SpeechClip.from_pretrained(tmp_path / "model")
    assert upstream.batch_invariant == loaded.config.batch_invariant == stored
    wavs = waveforms(5_000, 2_000)
    output = loaded.encode_speech(wavs)
    for found, wanted in zip(upstream(wavs)["hidden_states"], output.hidden_states, strict=True):
        for row, valid in enumerate(output.lengths.tolist()):
            assert torch.equal(found[row, :valid], wanted[row, :valid])
    changed = UpstreamExpert(tmp_path / "model", batch_invariant=not stored)
    assert changed.batch_invariant != stored


def test_features_as_fairseqs_are_an_option(save: Save) -> None:
    """Fault: the option does nothing, so that nobody can compare with fairseq."""
    folder, wavs = save("speechclip_hybrid", "hubert-base"), waveforms(5_000, 2_000)
    upstream = UpstreamExpert(folder, batch_invariant=False)
    assert alone_and_together(upstream, wavs)[0] > 1e-3
    model = SpeechClip.from_pretrained(folder, batch_invariant=False)
    for found, wanted in zip(
        upstream(wavs)["hidden_states"], model.encode_speech(wavs).hidden_states, strict=True
    ):
        assert torch.equal(found, wanted)


@settings(max_examples=60)
@given(samples=st.integers(1, 4_000))
def test_s3prl_accepts_every_length(load: Load, samples: int) -> None:
    """Fault: 961 samples are 2 frames of the convolutions where s3prl expects 4, and stops."""
    upstream = load("speechclip_plus", "hubert-base")
    for state in upstream(waveforms(samples))["hidden_states"]:
        assert state.shape[1] == math.ceil(samples / HOP) >= round(samples / HOP)
        assert torch.isfinite(state).all()


def test_hidden_states_are_the_models(save: Save, variant: str) -> None:
    """Fault: a layer is missing or shifted, or a CLS token stands for the first frame."""
    folder, wavs = save(variant, "hubert-base"), waveforms(5_000, 3_000)
    result = UpstreamExpert(folder, name=variant)(wavs)
    output = SpeechClip.from_pretrained(folder).encode_speech(wavs)
    assert len(result["hidden_states"]) == len(output.hidden_states) == 4
    for number, (found, wanted) in enumerate(
        zip(result["hidden_states"], output.hidden_states, strict=True)
    ):
        assert found.shape == result["last_hidden_state"].shape
        assert found is result[f"hidden_state_{number}"]
        for row, valid in enumerate(output.lengths.tolist()):
            torch.testing.assert_close(found[row, :valid], wanted[row, :valid], rtol=0, atol=1e-6)
    assert found is result["last_hidden_state"]


def test_what_is_no_frame_has_keys_of_its_own(save: Save, variant: str) -> None:
    """Fault: an embedding among the hidden states, a "layer" of one frame."""
    folder, wavs = save(variant, "hubert-base"), waveforms(5_000, 3_000)
    result = UpstreamExpert(folder, name=variant)(wavs)
    output = SpeechClip.from_pretrained(folder).encode_speech(wavs)
    assert {"parallel", "cascaded"} & result.keys() == output.embeddings.keys()
    for name, embedding in output.embeddings.items():
        assert torch.equal(result[name], embedding)
    assert ("keywords" in result) == (output.keywords is not None)
    if output.keywords is not None:
        assert torch.equal(result["keywords"].token_ids, output.keywords.token_ids)


def test_the_encoder_alone(save: Save) -> None:
    """Fault: the row to compare with has the branch's layers, or another encoder's."""
    folder, wavs = save("speechclip_hybrid", "hubert-base"), waveforms(5_000, 3_000)
    alone = UpstreamExpert(folder, name="speechclip_encoder")
    whole = UpstreamExpert(folder, name="speechclip_hybrid")
    states = alone(wavs)["hidden_states"]
    assert len(states) == 3
    for found, wanted in zip(states, whole(wavs)["hidden_states"], strict=False):
        assert torch.equal(found, wanted)
    assert sum(p.numel() for p in alone.parameters()) < sum(p.numel() for p in whole.parameters())


def test_it_is_frozen_until_it_is_trained(save: Save) -> None:
    """Fault: features hold a graph that nobody wants; `-f` trains the branch but not HuBERT."""
    upstream = UpstreamExpert(save("speechclip_hybrid", "hubert-base"))
    assert not upstream(waveforms(5_000))["last_hidden_state"].requires_grad
    upstream.train()
    upstream(waveforms(5_000))["last_hidden_state"].sum().backward()
    convolution = upstream.model.speech_encoder.model.feature_extractor.conv_layers[0].conv
    assert convolution.weight.grad.abs().max() > 0
    upstream.eval()
    assert not upstream(waveforms(5_000))["last_hidden_state"].requires_grad
    upstream.train()
    with torch.no_grad():
        assert not upstream(waveforms(5_000))["last_hidden_state"].requires_grad


@pytest.mark.parametrize("family", ["whisper", "wav2vec2-bert"])
def test_an_encoder_that_cannot_be_trained_stays_frozen(save: Save, family: str) -> None:
    """Fault: a model that was trained on Whisper's encoder cannot be used as an upstream."""
    folder, wavs = save("speechclip_hybrid", family), waveforms(5_000, 3_000)
    upstream = UpstreamExpert(folder)
    states = upstream(wavs)["hidden_states"]
    wanted = SpeechClip.from_pretrained(folder).encode_speech(wavs)
    for state, own in zip(states, wanted.hidden_states, strict=True):
        assert torch.allclose(state[0, : own.shape[1]], own[0], atol=1e-6)
    upstream.train()
    upstream(wavs)["last_hidden_state"].sum().backward()
    moved = {n.split(".")[1] for n, p in upstream.named_parameters() if p.grad is not None}
    assert "branch" in moved
    assert "speech_encoder" not in moved


def test_dropout_is_on_in_training_only(save: Save) -> None:
    """Fault: a fine-tuned encoder stays in evaluation mode, or a frozen one drops out."""
    upstream, wavs = UpstreamExpert(save("speechclip_hybrid", "hubert-base")), waveforms(5_000)

    def encoded() -> Tensor:
        return upstream(wavs)["hidden_state_2"]

    assert torch.equal(encoded(), encoded())
    upstream.train()
    assert not torch.equal(encoded(), encoded())


def test_a_configuration_file(save: Save, tmp_path: Path) -> None:
    """Fault: s3prl's `-g` is taken and not read."""
    folder = save("speechclip_hybrid", "hubert-base")
    path = tmp_path / "upstream.yaml"
    path.write_text("batch_invariant: false\n", encoding="utf-8")
    assert not hubconf.speechclip_hybrid(folder, str(path)).batch_invariant
    assert hubconf.speechclip_hybrid(folder).batch_invariant
    assert not hubconf.speechclip_hybrid(folder, {"batch_invariant": False}).batch_invariant


@pytest.mark.parametrize(
    "text, said",
    [
        ("batch_invarient: true", "batch_invariant"),
        ("batch_invariant: maybe", "true or false"),
        ("- 3", "found list"),
        ("{", "not a YAML file"),
    ],
)
def test_a_wrong_configuration_is_an_error(
    save: Save, tmp_path: Path, text: str, said: str
) -> None:
    """Fault: a misspelt key leaves the default in silence."""
    path = tmp_path / "upstream.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        hubconf.speechclip_hybrid(save("speechclip_hybrid", "hubert-base"), path)


def test_without_a_checkpoint_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault: features of a model that the user does not know of."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "result" / "pretrain" / "mine"
    small_model("speechclip_parallel", seed=5).save_pretrained(run / "last")
    write_config(run / "config.yaml", resolve_config("speechclip_parallel"))
    with caplog.at_level(logging.WARNING):
        found = hubconf.speechclip_parallel()
        encoder = hubconf.speechclip_encoder()
    for line, name in zip(
        caplog.messages, ("speechclip_parallel", "speechclip_encoder"), strict=True
    ):
        assert line.startswith(name)
        assert "newest pretraining run" in line
        assert str(Path("result") / "pretrain" / "mine") in line
    wanted = SpeechClip.from_pretrained(run).encode_speech(waveforms(3_000)).hidden_states
    assert torch.equal(found(waveforms(3_000))["hidden_states"][2][:, :9], wanted[2])
    assert torch.equal(encoder(waveforms(3_000))["hidden_states"][2][:, :9], wanted[2])


def test_a_checkpoint_of_another_model_is_refused(save: Save) -> None:
    """Fault: a table's row under another model's name."""
    folder = save("speechclip_hybrid", "hubert-base")
    with pytest.raises(CheckpointError, match="holds a speechclip_hybrid, expected a"):
        hubconf.speechclip_plus(folder)


@pytest.mark.parametrize(
    "factory, ckpt, said",
    [
        (hubconf.speechclip_plus_local, "nowhere/model", "takes the path"),
        (hubconf.speechclip_plus_local, None, "takes the path"),
        (hubconf.speechclip_plus_url, "model.ckpt", "takes the address"),
        (hubconf.speechclip_plus_url, "file:///nowhere/model.ckpt", "cannot download"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(factory, ckpt: str | None, said: str) -> None:
    """Fault: a wrong path is taken for the Hub's; a failed download ends in a traceback."""
    with pytest.raises(CheckpointError, match=said) as error:
        factory(ckpt)
    assert "\n" not in str(error.value)


def test_an_official_checkpoint_by_its_address(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: `_url` downloads and then reads another file."""
    from s3prl.util import download

    monkeypatch.setattr(download, "_download_dir", tmp_path)
    path = goldens / "hybrid" / "official.ckpt"
    fetched = hubconf.speechclip_hybrid_url(path.as_uri())
    local = hubconf.speechclip_hybrid_local(path)
    assert Path(fetched.located.source).parent == tmp_path
    states = (m(waveforms(3_000))["last_hidden_state"] for m in (fetched, local))
    assert torch.equal(*states)


@pytest.mark.parametrize("wavs", [[], [torch.zeros(0)], [torch.zeros(2, 400)]])
def test_what_is_no_recording_is_an_error(save: Save, wavs: list[Tensor]) -> None:
    """Fault: nothing comes out of nothing."""
    with pytest.raises(AudioError):
        UpstreamExpert(save("speechclip_hybrid", "hubert-base"))(wavs)
