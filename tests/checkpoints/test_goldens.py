"""A converted checkpoint computes what the official code computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.structures import SpeechOutput

AGREEMENT = 1e-4  # absolute, the goldens' own; measured: 5e-6
GRADIENT = 1e-3  # relative to a parameter's gradient, the goldens' own; measured: 1e-5
# A bias in front of a batch norm has no gradient but rounding, up to 2e-5 in either code.
VANISHED = 1e-4


def close(found: Tensor, expected: Tensor, name: str) -> None:
    torch.testing.assert_close(
        found.detach(), expected, atol=AGREEMENT, rtol=0, msg=lambda text: f"{name}: {text}"
    )


def without_dropout(model: SpeechClip) -> SpeechClip:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def check_output(case, model: SpeechClip, output: SpeechOutput, mode: str) -> Tensor:
    """Compare embeddings, keywords, CIF and losses; gives the loss."""
    arrays = case.arrays
    images = model.clip.encode_images(arrays["images"])
    close(images, arrays[f"{mode}/image_feat"], "images")
    assert {f"{mode}/{name}_audio_feat" for name in output.embeddings} == {
        name for name in arrays if name.startswith(mode) and name.endswith("audio_feat")
    }
    for name, embedding in output.embeddings.items():
        close(embedding, arrays[f"{mode}/{name}_audio_feat"], name)
    if output.keywords is not None:
        lengths = case.keyword_lengths(mode)
        assert torch.equal(output.keywords.lengths, lengths)
        for row, length in enumerate(lengths):
            expected = arrays[f"{mode}/keyword_token_ids"][row, :length]
            assert torch.equal(output.keywords.token_ids[row, :length], expected)
            close(
                output.keywords.embeddings[row, :length],
                arrays[f"{mode}/keywords"][row, :length],
                "keywords",
            )
    if output.firing is not None:
        assert torch.equal(output.firing.target, arrays[f"{mode}/cif_target_len"])
        close(output.firing.quantity, arrays[f"{mode}/cif_quantity_out"], "quantity")
        close(output.firing.alpha, arrays[f"{mode}/cif_orig_alpha"], "alpha")
    losses = model.objective(output, images, arrays["ids"])
    unweighted = {"parallel": "p_cl_loss", "cascaded": "c_cl_loss"}
    for name, official in unweighted.items():
        if name in losses:
            weight = getattr(model.config.objective, f"{name}_weight")
            close(losses[name] / weight, arrays[f"{mode}/loss_{official}"].float(), official)
    loss = torch.stack(list(losses.values())).sum()
    close(loss, arrays[f"{mode}/loss_loss"].float(), "loss")
    return loss


def test_evaluation(case):
    """Embeddings, losses, keywords and CIF of a forward pass in evaluation mode."""
    model = case.model().eval()
    with torch.no_grad():
        output = model(case.speech)
        check_output(case, model, output, "eval")
    assert torch.equal(output.lengths, case.arrays["feat_len"])


def test_hidden_states(case):
    """Encoder states, then the branch's own, wherever there is speech."""
    output = case.model().encode_speech(case.waveforms)
    expected = [name for name in case.arrays if name.startswith("hidden_states/")]
    assert len(output.hidden_states) == len(expected)
    for index, states in enumerate(output.hidden_states):
        for row, length in enumerate(output.lengths):
            official = case.arrays[f"hidden_states/{index}"][row, :length]
            close(states[row, :length], official, f"state {index}")


def test_training(case):
    """Losses in training mode with every dropout at 0, and the gradient of every parameter."""
    model = without_dropout(case.model()).train()
    output = model(case.speech, scaling=True)
    check_output(case, model, output, "train").backward()
    own = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared = set()
    for official in [name for name in case.arrays if name.startswith("grad/")]:
        native = case.ledger.mapped[official.removeprefix("grad/")]
        expected = case.arrays[official]
        found = own[native]
        assert found is not None, native
        if official.endswith("parallel_cls"):
            found = found[:, :1]
        elif official.endswith("cascaded_cls"):
            found = found[:, 1:]
        elif "bn_layer" in official and found.ndim == 2:
            found = found.T.reshape(-1)
        difference = (found - expected).norm()
        assert difference <= GRADIENT * expected.norm() + VANISHED, (native, float(difference))
        compared.add(native)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == compared, "what is trained here and there differs"


def test_a_native_round_trip_is_bit_identical(case, tmp_path):
    """Guards save_pretrained: outputs equal to the last bit, so do weights and configuration."""
    model = case.model()
    model.save_pretrained(tmp_path)
    again = SpeechClip.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    one, other = model.encode_speech(case.waveforms), again.encode_speech(case.waveforms)
    for name, embedding in one.embeddings.items():
        assert torch.equal(embedding, other.embeddings[name])
    for states, others in zip(one.hidden_states, other.hidden_states, strict=True):
        assert torch.equal(states, others)


def test_it_loads_by_its_path(case):
    """Guards `from_pretrained("official.ckpt")` and the switch to the other padding behaviour."""
    model = SpeechClip.from_pretrained(case.path, batch_invariant=True)
    together = model.encode_speech(case.waveforms)
    alone = model.encode_speech(case.waveforms[1:2])
    for name, embedding in together.embeddings.items():
        torch.testing.assert_close(embedding[1:2], alone.embeddings[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["cascaded", "hybrid_plus"])
def test_vocabulary_is_recovered_from_the_weights(load_case, name: str):
    """Guards token ids: the goldens' vocabulary is none of the two that ship."""
    case = load_case(name)
    expected = np.load(case.path.parent / "vocab.npy")[:, 0]
    assert case.stored.vocabulary.tolist() == expected.tolist()
    assert case.stored.config.clip.vocabulary == "corpus"
