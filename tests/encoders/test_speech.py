"""The speech encoder: every family, alone and in a batch, frozen and trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_models import (
    FAMILIES,
    SPECTRAL,
    SPEECH,
    small_model,
    speech_batch,
    train,
    waveforms,
)

from s3prl_speechclip import SpeechClip
from s3prl_speechclip.encoders.shipped import ASSETS
from s3prl_speechclip.encoders.speech import (
    SpectralEncoder,
    SpeechEncoder,
    build_speech_encoder,
)
from s3prl_speechclip.errors import EncoderError
from s3prl_speechclip.hashing import state_hash
from s3prl_speechclip.model.config import SpeechEncoderConfig
from s3prl_speechclip.structures import SpeechBatch

# Attention over other padded lengths sums in another order; float32 of values near 1.
ORDER = 1e-5


def small_encoder(
    family: str, *, batch_invariant: bool = True, trainable: bool = False, **architecture: object
) -> SpeechEncoder:
    torch.manual_seed(1)
    config = SpeechEncoderConfig(
        pretrained=False,
        architecture={**SPEECH, **FAMILIES[family], **architecture},
        trainable=trainable,
        normalize_waveform=family.endswith("large"),
    )
    return build_speech_encoder(config, batch_invariant=batch_invariant)


def alone(waveform: torch.Tensor) -> SpeechBatch:
    return SpeechBatch(waveform.unsqueeze(0), torch.tensor([len(waveform)]))


@pytest.fixture(scope="module", params=[*FAMILIES, "positional batch norm"])
def encoder(request: pytest.FixtureRequest) -> SpeechEncoder:
    if request.param in FAMILIES:
        return small_encoder(request.param).eval()
    encoder = small_encoder("hubert-base", conv_pos_batch_norm=True).eval()
    norm = encoder.model.encoder.pos_conv_embed.batch_norm
    torch.nn.init.normal_(norm.running_mean)
    torch.nn.init.normal_(norm.bias)
    return encoder


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(400, 9_000), min_size=2, max_size=4))
def test_a_batch_changes_no_utterance(encoder: SpeechEncoder, lengths: list[int]):
    """Guards against padding entering group norm, positional convolutions or attention."""
    together = encoder(speech_batch(*lengths))
    for index, waveform in enumerate(waveforms(*lengths)):
        single = encoder(alone(waveform))
        frames = int(single.lengths[0])
        assert frames == int(together.lengths[index])
        for ours, theirs in zip(together.hidden_states, single.hidden_states, strict=True):
            torch.testing.assert_close(ours[index, :frames], theirs[0, :frames], atol=ORDER, rtol=0)


def test_there_is_a_state_before_and_after_every_layer(encoder: SpeechEncoder):
    """Guards the mixture's number of weights."""
    features = encoder(speech_batch(4_000, 3_000))
    assert len(features.hidden_states) == encoder.layers == SPEECH["num_hidden_layers"] + 1
    assert {state.shape for state in features.hidden_states} == {(2, 12, encoder.width)}


def test_frames_are_those_of_the_convolutions(encoder: SpeechEncoder):
    """Guards the exact frame count against rounding: 400 samples a frame, 320 between frames."""
    lengths = (400, 719, 720, 16_000)
    assert encoder(speech_batch(*lengths)).lengths.tolist() == [1, 1, 2, 49]


def test_a_recording_shorter_than_a_frame_gives_one(encoder: SpeechEncoder):
    features = encoder(speech_batch(3, 1_000))
    assert features.lengths.tolist() == [1, 2]
    assert all(state.isfinite().all() for state in features.hidden_states)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_encoder_learns_and_a_frozen_one_does_not(family: str):
    """Guards the frozen encoder's evaluation mode, and layerdrop, which would lose a state."""
    trained = small_encoder(family, trainable=True, layerdrop=0.9).train()
    for _ in range(3):
        states = trained(speech_batch(3_000, 2_000)).hidden_states
        assert len(states) == trained.layers
    states[-1].sum().backward()
    missing = [n for n, p in trained.named_parameters() if p.requires_grad and p.grad is None]
    # What follows the last state is the encoder's own final norm, which pre-norm models have.
    assert all("encoder.layer_norm" in name for name in missing)

    frozen = small_encoder(family).train()
    assert not frozen.model.training
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen(speech_batch(3_000)).hidden_states[-1].requires_grad


def test_without_the_switch_padding_is_read():
    """Guards the switch: without it, HuBERT Base's group norm reads the padding."""
    encoder = small_encoder("hubert-base", batch_invariant=False).eval()
    short = waveforms(4_000, 9_000)[0]
    together = encoder(speech_batch(4_000, 9_000)).hidden_states[0][0, :10]
    assert (together - encoder(alone(short)).hidden_states[0][0, :10]).abs().max() > 1e-3


def test_normalised_waveforms_forget_level_and_offset():
    """Guards waveform normalisation against reading the padding's zeros."""
    encoder = small_encoder("hubert-large").eval()
    batch = speech_batch(4_000, 6_000)
    valid = torch.arange(6_000) < batch.lengths.unsqueeze(1)
    louder = SpeechBatch((3 * batch.waveforms + 0.2) * valid, batch.lengths)
    plain, changed = encoder(batch).hidden_states[-1], encoder(louder).hidden_states[-1]
    # The normalisation's 1e-5 on a variance of 0.01 differs from that on 0.09.
    torch.testing.assert_close(plain[0, :12], changed[0, :12], atol=2e-3, rtol=0)


def test_another_family_is_refused():
    with pytest.raises(EncoderError, match="hubert, wav2vec2, wavlm, data2vec-audio.*'sew'"):
        build_speech_encoder(
            SpeechEncoderConfig(pretrained=False, architecture={"model_type": "sew"}),
            batch_invariant=True,
        )


def test_another_hop_is_refused():
    """Guards spans and frame counts, which take 20 ms for granted."""
    with pytest.raises(EncoderError, match="hop of 320 samples; found 160"):
        small_encoder("hubert-base", conv_stride=[5, 2, 2, 2, 2, 2, 1])


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(EncoderError, match="--hubert PATH") as caught:
        build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_precision_is_for_disks(tmp_path):
    """Guards a folder in float16: it computes in float32, as every other does."""
    saved = small_encoder("hubert-base").eval()
    saved.model.half().save_pretrained(tmp_path)
    loaded = build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.eval()(speech_batch(3_000)).hidden_states[-1].dtype == torch.float32


def test_an_encoder_says_how_it_is_built():
    """Guards checkpoints that hold an encoder whose folder is gone when they are loaded."""
    for family in FAMILIES:
        encoder = small_encoder(family)
        config = SpeechEncoderConfig(pretrained=False, architecture=encoder.architecture)
        again = build_speech_encoder(config, batch_invariant=True)
        again.load_state_dict(encoder.state_dict())
        assert again.architecture == encoder.architecture


def test_a_shipped_encoder_that_is_missing_is_named(tmp_path, monkeypatch):
    """Guards an installation that lost its data files."""
    monkeypatch.setattr("s3prl_speechclip.encoders.shipped.ASSETS", tmp_path)
    with pytest.raises(EncoderError, match="reinstall the package") as caught:
        build_speech_encoder(SpeechEncoderConfig(name="mini"), batch_invariant=True)
    assert str(tmp_path / "hubert" / "config.json") in str(caught.value)


def test_weights_come_from_a_folder(tmp_path):
    """Guards `--hubert PATH`: transformers' own folder layout, no network."""
    saved = small_encoder("hubert-base").eval()
    saved.model.save_pretrained(tmp_path)
    loaded = build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    batch = speech_batch(3_000)
    torch.testing.assert_close(
        loaded.eval()(batch).hidden_states, saved(batch).hidden_states, atol=0, rtol=0
    )


def edit_weights(folder, change) -> None:
    """Write a folder's weights anew under other names, or some of them."""
    state = load_file(folder / "model.safetensors")
    renamed = {change(name): value for name, value in state.items() if change(name)}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("prefix", ["module.", "hubert.", "module.hubert.", "model."])
def test_a_uniform_prefix_is_stripped(tmp_path, prefix: str):
    """Guards files saved from DDP, which used to load nothing."""
    saved = small_encoder("hubert-base").eval()
    saved.model.save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda name: prefix + name)
    loaded = build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert state_hash(loaded.state_dict()) == state_hash(saved.state_dict())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_missing_weights_are_named(tmp_path, prefix: str):
    """Guards against layers of random weights."""
    small_encoder("hubert-base").model.save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda name: "" if "layers.1.layer_norm" in name else prefix + name)
    with pytest.raises(EncoderError, match=r"2 weights .*encoder\.layers\.1\.layer_norm") as caught:
        build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert "\n" not in str(caught.value)


def test_the_mask_embedding_may_be_missing(tmp_path):
    """Guards fine-tuned models, whose files lack what only masked prediction uses."""
    small_encoder("hubert-base").model.save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda name: "" if "masked_spec_embed" in name else name)
    config = SpeechEncoderConfig(name=str(tmp_path))
    loaded = [build_speech_encoder(config, batch_invariant=True) for _ in range(2)]
    # A checkpoint that leaves the encoder out finds it again by its hash.
    assert state_hash(loaded[0].state_dict()) == state_hash(loaded[1].state_dict())


def test_weights_of_other_shapes_are_an_error_of_one_line(tmp_path):
    small_encoder("hubert-base").model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(EncoderError, match="not available") as caught:
        build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert "\n" not in str(caught.value)


def test_pickled_code_is_not_run(tmp_path):
    """Guards pytorch_model.bin from anywhere."""
    small_encoder("hubert-base").model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    victim = tmp_path / "ran"
    torch.save({"encoder": Touch(victim)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderError) as caught:
        build_speech_encoder(SpeechEncoderConfig(name=str(tmp_path)), batch_invariant=True)
    assert not victim.exists() and "\n" not in str(caught.value)


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_an_upstream_of_s3prl_is_a_speech_encoder():
    """Guards `s3prl:NAME`: the upstream's states, of each recording alone, whatever the batch."""
    config = SpeechEncoderConfig(name="s3prl:speechclip_encoder")
    encoder = build_speech_encoder(config, batch_invariant=True).eval()
    # Never the newest run, which may be the model that is being built.
    assert encoder.model.upstream.located.source == str(ASSETS / "speechclip_hybrid")
    batch = speech_batch(5_000, 300, 9_000)
    found = encoder(batch)
    assert len(found.hidden_states) == encoder.layers
    assert {state.shape[2] for state in found.hidden_states} == {encoder.width}
    for row, waveform in enumerate(waveforms(5_000, 300, 9_000)):
        padded = torch.nn.functional.pad(waveform, (0, max(0, 400 - len(waveform))))
        states = encoder.model.upstream([padded])["hidden_states"]
        assert found.lengths[row] == states[0].shape[1]
        for ours, theirs in zip(found.hidden_states, states, strict=True):
            assert torch.equal(ours[row, : found.lengths[row]], theirs[0])
    official = build_speech_encoder(config, batch_invariant=False).eval()(batch)
    assert official.lengths.tolist() == [16, 1, 29]


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("s3prl:fbank", {}, r"hops \[160\]"),
        ("s3prl:hubrt_base", {}, "did you mean 'hubert_base'"),
        ("s3prl:speechclip_encoder", {"trainable": True}, "cannot be trained"),
        (
            "whisper",
            {"trainable": True, "pretrained": False, "architecture": SPECTRAL["whisper"]},
            "cannot be trained",
        ),
    ],
)
def test_an_upstream_that_does_not_fit_says_why(name: str, changes, named: str):
    with pytest.raises(EncoderError, match=named) as caught:
        build_speech_encoder(SpeechEncoderConfig(name=name, **changes), batch_invariant=True)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=SPECTRAL)
def spectral(request: pytest.FixtureRequest) -> SpectralEncoder:
    torch.manual_seed(1)
    config = SpeechEncoderConfig(pretrained=False, architecture=SPECTRAL[request.param])
    encoder = build_speech_encoder(config, batch_invariant=True)
    assert isinstance(encoder, SpectralEncoder)
    return encoder.eval()


def test_log_mel_models_give_transformers_states(spectral: SpectralEncoder):
    """Guards their features and frames, 20 ms each; Whisper's last state lacks its final norm."""
    (waveform,) = waveforms(9_000)
    features = spectral(alone(waveform))
    spectrum = spectral.extract(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    found = spectral.model(spectrum["input_features"], output_hidden_states=True)
    last = features.hidden_states[-1]
    if spectral.window:
        last = spectral.model.layer_norm(last)
    frames = int(features.lengths[0])
    assert frames in (27, 28) and spectral.layers == len(features.hidden_states) == 3
    expected = (*found.hidden_states[:-1], found.last_hidden_state)
    for ours, theirs in zip((*features.hidden_states[:-1], last), expected, strict=True):
        assert ours.shape == (1, frames, spectral.width)
        torch.testing.assert_close(ours, theirs[:, :frames], atol=1e-6, rtol=0)


def test_log_mel_models_read_each_recording_alone_and_whole(spectral: SpectralEncoder):
    """Guards against padding, and what lies beyond a window of Whisper's, here one second."""
    lengths = (300, 9_000, 41_000)
    together = spectral(speech_batch(*lengths))
    for row, waveform in enumerate(waveforms(*lengths)):
        single = spectral(alone(waveform))
        frames = int(single.lengths[0])
        assert frames == int(together.lengths[row]) >= max(1, len(waveform) // 320 - 1)
        for ours, theirs in zip(together.hidden_states, single.hidden_states, strict=True):
            assert torch.equal(ours[row, :frames], theirs[0])


@pytest.mark.parametrize("family", [*SPECTRAL, "unispeech-base", "unispeech-sat-large"])
def test_a_model_learns_on_any_speech_encoder(family: str, tmp_path: Path):
    """Guards ten training steps, and a checkpoint of each."""
    model = small_model("speechclip_parallel", family=family)
    losses = train(model)
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path)
    again = SpeechClip.from_pretrained(tmp_path)
    found = again.encode_speech(waveforms(3_000, 5_000)).parallel
    assert torch.equal(found, model.encode_speech(waveforms(3_000, 5_000)).parallel)
