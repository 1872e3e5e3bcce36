"""Outputs of the six branches, and the gradients that reach their parameters."""

from __future__ import annotations

import pytest
import torch
from small_models import small_model, speech_batch

from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import (
    VARIANTS,
    AttentionConfig,
    CifConfig,
    KeywordConfig,
    Variant,
)

E, TOKEN = 24, 16  # widths of the small CLIP


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_outputs_are_those_of_the_variant(variant: Variant):
    """Guards which embeddings, keywords and spans a variant has, and their shapes."""
    output = small_model(variant.name).eval()(speech_batch(9_000, 5_000))
    expected = {"parallel": variant.parallel, "cascaded": variant.keywords is not None}
    assert set(output.embeddings) == {name for name, has in expected.items() if has}
    for embedding in output.embeddings.values():
        assert embedding.shape == (2, E)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    assert len(output.hidden_states) == 3 + 1
    assert {states.shape for states in output.hidden_states} == {(2, 27, 32)}
    assert (output.keywords is None) == (variant.keywords is None)
    assert (output.firing is None) == (variant.keywords != "cif")
    if output.keywords is not None:
        keywords = output.keywords
        assert keywords.embeddings.shape == (2, int(keywords.lengths.max()), TOKEN)
        assert (keywords.spans is None) == (variant.keywords == "cls")
        for row, length in enumerate(keywords.lengths):
            chosen = keywords.token_ids[row, :length]
            assert not set(chosen.tolist()) & set(SPECIAL_TOKENS)
            assert not keywords.token_ids[row, length:].any()
            assert not keywords.embeddings[row, length:].any()
        if variant.keywords == "cls":
            assert keywords.lengths.tolist() == [3, 3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_reaches_every_parameter(variant: str):
    """Guards against a part that is never trained, which DDP would wait for."""
    model = small_model(variant).train()
    output = model(speech_batch(12_000, 9_000, 7_000), scaling=True)
    images = torch.nn.functional.normalize(torch.randn(3, E), dim=1)
    losses = model.objective(output, images, torch.arange(3))
    torch.stack(list(losses.values())).sum().backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert [n for n, p in trained if p.grad is None or not p.grad.isfinite().all()] == []
    assert [
        n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None
    ] == []


@pytest.mark.parametrize("variant", ["speechclip_plus", "speechclip_hybrid_plus"])
def test_scaling_fires_the_target_in_training_only(variant: str):
    """Guards length scaling: a keyword in 0.4 s, and alpha alone in evaluation."""
    model = small_model(variant, cif=CifConfig(frames_per_keyword=4))
    batch = speech_batch(16_000, 8_000)
    scaled = model.train()(batch, scaling=True)
    assert torch.equal(scaled.keywords.lengths, scaled.firing.target)
    assert scaled.firing.target.tolist() == [12, 6]
    free = model.eval()(batch, scaling=True)
    assert not torch.equal(free.keywords.lengths, scaled.keywords.lengths)
    assert torch.equal(free.firing.target, scaled.firing.target)


@pytest.mark.parametrize("frames", [10, 30])
def test_targets_round_halves_to_even(frames: int):
    """Guards the official rounding: 10 and 30 frames at 20 a keyword are 0 and 2."""
    model = small_model("speechclip_plus")
    speech = speech_batch(400 + 320 * (frames - 1))
    assert model(speech).firing.target.tolist() == [round(frames / 20)]


@pytest.mark.parametrize("kind", ["encoder", "norm"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_branch_takes_either_attention(variant: str, kind: str):
    """Guards released hybrids with a whole transformer layer; each layer has a hidden state."""
    layers = 2 if kind == "encoder" else 1
    attention = AttentionConfig(kind=kind, heads=2, layers=layers, feedforward=48)
    output = small_model(variant, attention=attention)(speech_batch(4_000))
    of_frames = VARIANTS[variant].keywords != "words"  # else of segments
    assert len(output.hidden_states) == 3 + (layers if of_frames else 1)


def test_banned_rows_replace_the_special_tokens():
    """Guards the official rule of banning rows 0, 2 and 3 whatever they are."""
    model = small_model("speechclip_cascaded", keywords=KeywordConfig(number=3, banned_rows=(5,)))
    with torch.no_grad():
        chosen = model.clip.codebook()[[5, 6, 0]].unsqueeze(0)
        rows = model.branch.head.quantizer(
            chosen, model.clip.codebook(), model.branch.head.banned_rows
        )
    assert rows.rows.tolist()[0][1:] == [6, 0] and rows.rows[0, 0] != 5


@pytest.mark.parametrize("norm", ["per_keyword", "shared", "none"])
@pytest.mark.parametrize("projection", [(), (20,), (20, 12)])
def test_heads_of_every_form_name_keywords(norm: str, projection: tuple[int, ...]):
    keywords = KeywordConfig(number=4, norm=norm, projection=projection)
    output = small_model("speechclip_hybrid", keywords=keywords)(speech_batch(4_000, 3_000))
    assert output.keywords.token_ids.shape == (2, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": AttentionConfig(heads=2, layers=0)},
        {"cif": CifConfig(conv_width=2)},
        {"cif": CifConfig(tail_threshold=0.0)},
    ],
)
def test_numbers_that_no_branch_can_have_are_named(changes):
    """Guards against a traceback, or keywords that are no numbers."""
    with pytest.raises(ConfigError, match=r"model\.(attention|cif)\."):
        small_model("speechclip_plus", **changes)
