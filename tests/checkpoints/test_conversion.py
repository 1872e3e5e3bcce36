"""The forms in which released files differ, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from s3prl_speechclip.checkpoints.__main__ import main
from s3prl_speechclip.checkpoints.official import convert_official, read_official
from s3prl_speechclip.checkpoints.official.clip import recover_vocabulary
from s3prl_speechclip.checkpoints.official.hubert import _heads
from s3prl_speechclip.checkpoints.official.reading import Settings, open_official
from s3prl_speechclip.checkpoints.official.settings import _size
from s3prl_speechclip.encoders.vocabulary import official_vocabulary
from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.model.speechclip import SpeechClip

BRANCH = "cascaded_branch"


def same_output(path, case) -> None:
    """A rewritten file computes what the golden does."""
    found = SpeechClip.from_stored(read_official(path)).encode_speech(case.waveforms)
    expected = case.model().encode_speech(case.waveforms)
    assert found.embeddings
    for name, embedding in found.embeddings.items():
        torch.testing.assert_close(embedding, expected.embeddings[name], atol=1e-6, rtol=0)
    if found.keywords is not None:
        assert torch.equal(found.keywords.token_ids, expected.keywords.token_ids)


def test_every_weight_is_accounted_for(case):
    """Guards against weights that are silently left behind."""
    ledger = case.ledger
    names = set(open_official(case.path).state)
    assert set(ledger.mapped) | set(ledger.dropped) == names
    assert not set(ledger.mapped) & set(ledger.dropped)


def test_an_unknown_weight_is_refused_by_name(edit_official):
    """Guards against a model that is only nearly the released one."""

    def change(settings, state):
        state["cascaded_branch.cross_encoder.weight"] = torch.zeros(2)

    with pytest.raises(CheckpointError, match=r"1 weights .*cascaded_branch\.cross_encoder"):
        read_official(edit_official("hybrid", change))


@pytest.mark.parametrize(
    "name",
    [
        "audio_encoder.weightedsum_layer.weights",
        "audio_encoder.encoder.encoder.layers.1.fc1.bias",
        "clip.model.visual.ln_post.weight",
        f"{BRANCH}.self_att.attentionBlock_Norm.weight",
        f"{BRANCH}.downsampling.weight_proj.1.bias",
    ],
)
def test_a_missing_weight_is_an_error(edit_official, name: str):
    """Guards against random weights in place of trained ones."""
    path = edit_official("hybrid_plus", lambda settings, state: state.pop(name))
    with pytest.raises(CheckpointError, match=name.rpartition(".")[2]):
        SpeechClip.from_stored(read_official(path))


def test_a_copy_of_clip_that_differs_is_refused(edit_official):
    """Guards the assumption that the branch's CLIP is the model's."""

    def change(settings, state):
        name = f"{BRANCH}.clip.model.ln_final.bias"
        state[name] = state[name] + 1

    with pytest.raises(CheckpointError, match="two different weights"):
        read_official(edit_official("cascaded", change))


def test_the_older_hybrid_keeps_its_cls_tokens_in_one(edit_official, load_case):
    def change(settings, state):
        parts = [state.pop(f"{BRANCH}.{part}_cls") for part in ("parallel", "cascaded")]
        state[f"{BRANCH}.cls"] = torch.cat(parts, 1)
        settings["model_settings"]["cascaded_branch"]["type"] = "KW_CascadedBranch_Integrated"

    same_output(edit_official("hybrid", change), load_case("hybrid"))


def test_one_batch_norm_a_keyword(edit_official, load_case):
    """Guards the form without `parallel`: a list of norms instead of one over all."""

    def change(settings, state):
        old = f"{BRANCH}.bn_layer.bn_layer"
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            values = state.pop(f"{old}.{leaf}").view(32, 8).T
            for k, value in enumerate(values):
                state[f"{BRANCH}.bn_layer.bn_layers.{k}.{leaf}"] = value
        counter = state.pop(f"{old}.num_batches_tracked")
        for k in range(8):
            state[f"{BRANCH}.bn_layer.bn_layers.{k}.num_batches_tracked"] = counter

    same_output(edit_official("cascaded", change), load_case("cascaded"))


def test_one_batch_norm_for_all_keywords(edit_official):
    """Guards the form `same`."""

    def change(settings, state):
        old = f"{BRANCH}.bn_layer.bn_layer"
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{old}.{leaf}"] = state[f"{old}.{leaf}"].view(32, 8)[:, 0].clone()

    config = read_official(edit_official("cascaded", change)).config
    assert config.keywords.norm == "shared"


def test_a_hybrid_of_whole_transformer_layers(edit_official, load_case):
    """Guards the released large SpokenCOCO hybrid, whose branch has a feed-forward part."""

    def change(settings, state):
        for name in [n for n in state if n.startswith(f"{BRANCH}.self_att.")]:
            del state[name]
        layer = torch.nn.TransformerEncoderLayer(48, 2, 96, batch_first=True)
        encoder = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(48))
        for name, value in encoder.state_dict().items():
            state[f"{BRANCH}.self_att.model.{name}"] = value
        block = settings["model_settings"]["cascaded_branch"]["transformer_args"]
        block.update(type="TransformerEncoder", nhead=2, n_layers=2)

    stored = read_official(edit_official("hybrid", change))
    assert (stored.config.attention.kind, stored.config.attention.heads) == ("encoder", 2)
    model = SpeechClip.from_stored(stored)
    output = model.encode_speech(load_case("hybrid").waveforms)
    assert len(output.hidden_states) == 4 + 2  # the encoder's, and one a layer of the branch


def to_s3prl(settings, state) -> None:
    settings["audio_encoder"]["type"] = "s3prl_plus"
    for name in [n for n in state if n.startswith("audio_encoder.encoder.")]:
        native = name.replace("audio_encoder.encoder.", "audio_encoder.encoder.model.", 1)
        state[native] = state.pop(name)


def test_s3prls_hubert_has_one_more_name(edit_official, load_case):
    """Guards HuBERT Base through s3prl; the large form's last state has one more norm there."""
    same_output(edit_official("parallel", to_s3prl), load_case("parallel"))
    with pytest.raises(CheckpointError, match="through s3prl"):
        read_official(edit_official("parallel_ln", to_s3prl))


def test_half_precision_is_widened(edit_official):
    def change(settings, state):
        for name, value in state.items():
            state[name] = value.half() if value.is_floating_point() else value

    stored = read_official(edit_official("hybrid_plus_ln", change))
    assert {v.dtype for v in stored.state.values()} == {torch.float32, torch.int64}
    SpeechClip.from_stored(stored)


def test_a_fixed_temperature_is_the_configurations(edit_official):
    """Guards files whose loss has no weight: the scale comes from the settings."""

    def change(settings, state):
        settings["cl_loss"]["args"]["temperature"] = 0.05

    model = SpeechClip.from_stored(read_official(edit_official("parallel", change)))
    assert float(model.contrast.logit_scale) == pytest.approx(20, rel=1e-6)
    assert not model.contrast.log_scale.requires_grad


def test_known_differences_of_the_official_code_are_in_the_configuration(load_case):
    """Guards what the released checkpoints were trained with, whatever their files say."""
    config = load_case("hybrid_plus").stored.config
    assert config.batch_invariant is False
    assert config.cif.dropout == 0.5  # the file says 0.1, and the official code ignores it
    assert config.cif.frames_per_keyword == 20 and config.cif.max_fires == 75
    assert config.cif.scaling_steps == 5000 and config.cif.quantity_weight == 0.25
    assert config.objective.max_logit_scale == 0 and config.objective.learn_temperature
    assert config.keywords.banned_rows == (0, 2, 3)
    assert not config.speech_encoder.pretrained and not config.clip.pretrained


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("audio_encoder", "type"), "custom_wavlm", "custom_wavlm"),
        (("audio_encoder", "feat_select_idx"), "last_hidden_state", "feat_select_idx"),
        (("cl_loss", "type"), "SupConLoss", "SupConLoss"),
        (("model_settings", "cascaded_branch", "type"), "Mystery", "Mystery"),
        (("model_settings", "cascaded_branch", "vq", "type"), "KmeansVectorQuantizer", "Kmeans"),
        (("model_settings", "cascaded_branch", "vq", "args", "temp"), "(2, 0.5, 1)", "fixed="),
        (("model_settings", "image_encoder_projection"), {"dimensions": [1]}, "projection"),
        (("model_settings", "parallel_objective_weight"), 1.0, "parallel objective"),
    ],
)
def test_what_would_compute_something_else_is_refused(edit_official, place, value, named: str):
    def change(settings, state):
        *path, last = place
        for part in path:
            settings = settings[part]
        settings[last] = value

    with pytest.raises(CheckpointError, match=named) as caught:
        read_official(edit_official("cascaded", change))
    assert "\n" not in str(caught.value)


def test_released_vocabularies_are_known_by_their_rows():
    table = torch.randn(49_408, 2)
    name, ids = recover_vocabulary(table, None, "x")
    assert name == "full" and torch.equal(ids, torch.arange(49_408))
    for name in ("flickr8k", "spokencoco"):
        ids = official_vocabulary(name)
        assert recover_vocabulary(table[ids], table, "x")[0] == name
        # Without the full table their size tells them.
        found, recovered = recover_vocabulary(table[ids], None, "x")
        assert found == name and torch.equal(recovered, ids)


def test_equal_rows_resolve_to_the_released_vocabulary_first():
    """Guards tokens that CLIP never saw, whose embeddings may be alike."""
    ids = official_vocabulary("flickr8k")
    table = torch.randn(49_408, 2)
    table[ids[100]] = table[ids[4000]]
    assert torch.equal(recover_vocabulary(table[ids], table, "x")[1], ids)


def test_equal_rows_elsewhere_give_each_id_once_special_tokens_first():
    table = torch.randn(49_408, 2)
    table[49_406] = table[7] = table[3]
    ids = torch.tensor([0, 49_406, 49_407, 3, 9])
    name, found = recover_vocabulary(table[ids], table, "x")
    assert name == "corpus" and found.tolist() == ids.tolist()


@pytest.mark.parametrize("full", [None, torch.zeros(49_408, 2)])
def test_a_vocabulary_that_cannot_be_recovered_is_an_error(full):
    with pytest.raises(CheckpointError, match="cannot be recovered"):
        recover_vocabulary(torch.ones(10, 2), full, "x")


def test_a_width_whose_heads_cannot_be_known_is_refused(load_case):
    assert [_heads(width, Settings({}, "x")) for width in (768, 1024, 48)] == [12, 16, 4]
    with pytest.raises(CheckpointError, match="width 50"):
        _heads(50, Settings({}, "x"))


def published(width: int, layers: int, patch: int) -> tuple[dict, dict]:
    speech = {"hidden_size": width, "num_hidden_layers": layers}
    return speech, {"vision_cfg": {"width": width, "patch_size": patch, "image_size": 224}}


@pytest.mark.parametrize(
    ("encoders", "size"),
    [
        (published(768, 12, 32), "base"),
        (published(1024, 24, 14), "large"),
        (published(768, 12, 16), "custom"),
    ],
)
def test_the_size_is_read_from_the_weights(encoders, size: str):
    """Guards the goldens' lesson: a file named hubert_base may be of the large form."""
    assert _size(*encoders)[0] == size


def test_the_large_form_normalises_waveforms(load_case):
    for name in ("parallel_ln", "parallel"):
        speech = load_case(name).stored.config.speech_encoder
        assert speech.normalize_waveform is (name == "parallel_ln")
        assert speech.architecture["do_stable_layer_norm"] is (name == "parallel_ln")


def test_the_command_converts_and_accounts(load_case, tmp_path, capsys):
    """Guards `python -m s3prl_speechclip.checkpoints convert`, end to end."""
    case = load_case("hybrid")
    command = [sys.executable, "-m", "s3prl_speechclip.checkpoints", "convert", case.path]
    done = subprocess.run([*command, tmp_path / "native"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "native")
    assert f"{BRANCH}.parallel_proj.bias -> branch.projection.bias" in lines
    assert any(line.startswith("criterion.eye_mat left out: ") for line in lines)
    model = SpeechClip.from_pretrained(tmp_path / "native")
    for name, value in case.stored.state.items():
        assert torch.equal(model.state_dict()[name], value), name

    assert main(["convert", str(tmp_path / "no.ckpt"), str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_account_says_where_the_model_comes_from(load_case):
    about = convert_official(load_case("parallel").path)[0].about
    assert about["corpus"] == "flickr8k" and about["step"] == 2 and about["epoch"] == 1
