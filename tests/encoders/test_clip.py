"""CLIP: keywords, captions and images in one space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from small_models import CLIP, VOCABULARY, small_model, speech_batch, train, waveforms
from torch.nn import functional as F

from s3prl_speechclip import SpeechClip
from s3prl_speechclip.encoders.clip import (
    ClipEncoder,
    _preprocessing,
    _reads_bpe,
    build_clip,
    uses_quick_gelu,
)
from s3prl_speechclip.encoders.vocabulary import (
    END_OF_TEXT,
    START_OF_TEXT,
    encode,
    find_vocabulary,
)
from s3prl_speechclip.errors import ConfigError, EncoderError
from s3prl_speechclip.model.config import ClipConfig, KeywordConfig

WHOLE = {**CLIP, "text_cfg": {**CLIP["text_cfg"], "vocab_size": 49_408}}
SMALL = ClipConfig(name="small", pretrained="", architecture=CLIP)


def small_clip(config: ClipConfig = SMALL) -> ClipEncoder:
    torch.manual_seed(0)
    return build_clip(config, VOCABULARY).eval()


@pytest.fixture(scope="module")
def whole() -> ClipEncoder:
    return small_clip(replace(SMALL, architecture=WHOLE))


def test_captions_embed_as_open_clips(whole: ClipEncoder):
    """Guards the cut of what follows the end of text: the causal tower never reads it."""
    texts = ["a dog runs", "cat", "a man on a very long red bicycle by the sea"]
    expected = F.normalize(whole.clip.encode_text(open_clip.tokenize(texts)), dim=-1)
    torch.testing.assert_close(whole.encode_text(texts), expected, atol=1e-5, rtol=0)


def test_keywords_are_read_as_a_caption(whole: ClipEncoder):
    """Guards the sentence that is built around keywords: start, keywords, end."""
    ids = encode("dog runs fast")
    embeddings = whole.clip.token_embedding(torch.tensor([[*ids, 0, 0], [ids[0], 0, 0, 0, 0]]))
    found = whole.encode_keywords(embeddings, torch.tensor([len(ids), 1]))
    expected = whole.encode_text(["dog runs fast", "dog"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_what_lies_beyond_the_keywords_is_not_read(whole: ClipEncoder):
    keywords, lengths = torch.randn(2, 6, 16), torch.tensor([3, 6])
    changed = keywords.clone()
    changed[0, 3:] = 100
    torch.testing.assert_close(
        whole.encode_keywords(keywords, lengths), whole.encode_keywords(changed, lengths)
    )


def test_seventy_five_keywords_fit():
    """Guards the cap: 75 keywords, start and end fill CLIP's 77 positions."""
    clip = small_clip()
    found = clip.encode_keywords(torch.randn(1, 75, 16), torch.tensor([75]))
    assert found.isfinite().all()


def test_keywords_get_a_gradient_through_the_frozen_tower():
    """Guards training: the tower is frozen, what it reads is not."""
    clip = small_clip()
    keywords = torch.randn(1, 3, 16, requires_grad=True)
    clip.encode_keywords(keywords, torch.tensor([3])).sum().backward()
    assert keywords.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_a_reduced_table_and_the_whole_give_the_same(whole: ClipEncoder):
    """Guards the two ways to hold a vocabulary: rows of the table, or a table of its own."""
    reduced = small_clip()
    state = dict(whole.clip.state_dict())
    state["token_embedding.weight"] = state["token_embedding.weight"][VOCABULARY]
    reduced.clip.load_state_dict(state)
    assert torch.equal(reduced.codebook(), whole.codebook())
    assert VOCABULARY[reduced.banned_rows].tolist() == [0, START_OF_TEXT, END_OF_TEXT]
    keywords, lengths = torch.randn(2, 4, 16), torch.tensor([2, 4])
    torch.testing.assert_close(
        reduced.encode_keywords(keywords, lengths), whole.encode_keywords(keywords, lengths)
    )


def test_a_caption_beyond_a_small_table_warns(caplog: pytest.LogCaptureFixture):
    """Guards against words that silently count for nothing."""
    clip = small_clip()
    known = clip.encode_text(["a"])
    with caplog.at_level("WARNING"):
        found = clip.encode_text(["a dog"])
    assert "not in this CLIP's table" in caplog.text
    torch.testing.assert_close(found, known)


def test_images_are_unit_vectors_from_pixels_or_kept_features():
    clip = small_clip()
    pixels = torch.randn(2, 3, 16, 16)
    found = clip.encode_images(pixels)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(clip.encode_images(clip.image_features(pixels)), found)


def test_images_are_preprocessed_as_clip_does():
    """Guards size and OpenAI's mean and deviation."""
    transform = small_clip().preprocess()
    pixels = transform(Image.new("RGB", (30, 20), "white"))
    assert pixels.shape == (3, 16, 16)
    expected = (1 - torch.tensor(open_clip.OPENAI_DATASET_MEAN)) / torch.tensor(
        open_clip.OPENAI_DATASET_STD
    )
    torch.testing.assert_close(pixels[:, 8, 8], expected, atol=1e-4, rtol=0)


def test_trained_means_the_text_tower_and_never_the_image_trunk():
    clip = small_clip(replace(SMALL, trainable=True)).train()
    trained = {name for name, p in clip.named_parameters() if p.requires_grad}
    assert any(name.startswith("clip.transformer") for name in trained)
    assert not any(name.startswith("clip.visual") for name in trained)
    assert "clip.logit_scale" not in trained
    assert not clip.clip.visual.training


def test_a_table_that_fits_no_vocabulary_is_an_error():
    config = replace(
        SMALL, architecture={**CLIP, "text_cfg": {**CLIP["text_cfg"], "vocab_size": 99}}
    )
    with pytest.raises(EncoderError, match=f"99 rows, the vocabulary {len(VOCABULARY)}"):
        build_clip(config, VOCABULARY)


def test_an_unknown_model_is_named():
    with pytest.raises(EncoderError, match="'ViT-Z-99'"):
        build_clip(ClipConfig(name="ViT-Z-99", pretrained=""), VOCABULARY)


TIMM = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None, "image_size": 160}
OTHER_FORMS = {
    "EVA": {"custom_text": True, "vision_cfg": TIMM},
    "MobileCLIP2": {"custom_text": True, "text_cfg": {"no_causal_mask": True}},
    "PE-Core": {"custom_text": True, "text_cfg": {"context_length": 32}},
    "ViTamin": {"custom_text": True, "text_cfg": {"proj_bias": True}},
}


def form(name: str) -> dict:
    changes = OTHER_FORMS[name]
    return {**WHOLE, **changes, "text_cfg": {**WHOLE["text_cfg"], **changes.get("text_cfg", {})}}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_other_forms_with_clips_tokens_embed_as_open_clips(name: str):
    """Guards text towers of their own, unmasked ones and short contexts."""
    clip = small_clip(replace(SMALL, architecture=form(name), quick_gelu=False))
    context = form(name)["text_cfg"]["context_length"]
    texts = ["a dog runs", "cat", "a man on a very long red bicycle by the sea " * 5]
    tokens = open_clip.tokenize(texts, context_length=context)
    with torch.no_grad():
        expected = F.normalize(clip.clip.encode_text(tokens), dim=-1)
    torch.testing.assert_close(clip.encode_text(texts), expected, atol=1e-6, rtol=0)
    side = clip.clip.visual.image_size
    side = side if isinstance(side, int) else side[0]
    pixels = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = F.normalize(clip.clip.encode_image(pixels), dim=-1)
    torch.testing.assert_close(clip.encode_images(pixels), expected, atol=1e-6, rtol=0)
    assert clip.joint_width == 24 and clip.context == context


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_a_model_learns_on_other_forms(name: str):
    """Guards ten training steps through another text tower, and keywords that are not padding."""
    clip = replace(SMALL, architecture=form(name), quick_gelu=False)
    model = small_model("speechclip_hybrid", clip=clip)
    losses = train(model)
    assert losses[-1] < losses[0]
    alone, both = (model.encode_speech(waveforms(*n)) for n in ((3_000,), (3_000, 5_000)))
    torch.testing.assert_close(alone.cascaded[0], both.cascaded[0], atol=1e-5, rtol=0)


def test_as_many_configurations_of_open_clip_read_clips_tokens_as_say_so(root: Path):
    """Guards against a refusal by class: MobileCLIP2, PE-Core, EVA, ViTamin read CLIP's tokens."""
    accepted = {n for n in open_clip.list_models() if _reads_bpe(open_clip.get_model_config(n))}
    for family in ("MobileCLIP2-S0", "PE-Core-B-16", "EVA02-B-16", "ViTamin-B", "ViT-L-14"):
        assert family in accepted
    page = (root / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert f"{len(accepted)} of its {len(open_clip.list_models())} configurations" in page
    # What is refused has another tokenizer, or is CoCa, which reads a class token of its own.
    for name in set(open_clip.list_models()) - accepted:
        text = open_clip.get_model_config(name)["text_cfg"]
        assert "hf_tokenizer_name" in text or name.startswith("coca_"), name


@pytest.mark.parametrize("variant", ["speechclip_hybrid", "speechclip_hybrid_plus"])
def test_a_short_context_limits_keywords(variant: str):
    """Guards keywords beyond a text tower's context, which would be left out in silence."""
    clip = replace(SMALL, architecture=form("PE-Core"), quick_gelu=False)
    model = small_model(variant, clip=clip)
    if variant.endswith("plus"):
        assert model.branch.segmenter.config.max_fires == 30
    with pytest.raises(ConfigError, match="must be 1 to 30"):
        small_model(variant, clip=clip, keywords=KeywordConfig(number=31))


@pytest.mark.parametrize("name", ["xlm-roberta-base-ViT-B-32", "ViT-B-16-SigLIP", "coca_ViT-B-32"])
def test_a_clip_with_another_text_encoder_has_no_keywords(name: str):
    """Guards keywords, which need CLIP's own tokens; offline, before anything is fetched."""
    with pytest.raises(EncoderError, match=f"'{name}' has another"):
        build_clip(ClipConfig(name=name, pretrained=""), VOCABULARY, weights=False)


SIGLIP = {**WHOLE, "vision_cfg": TIMM, "custom_text": True}
SIGLIP["text_cfg"] = {**WHOLE["text_cfg"], "hf_tokenizer_name": "somebody/siglip"}


@pytest.mark.parametrize(
    "clip", [replace(SMALL, architecture=SIGLIP), ClipConfig(name="timm:test_vit", pretrained="")]
)
def test_any_image_tower_serves_a_model_without_keywords(clip: ClipConfig, tmp_path):
    """Guards SigLIP and timm's networks for `speechclip_parallel`, from training to reloading."""
    model = small_model("speechclip_parallel", clip=clip)
    model.save_pretrained(tmp_path)
    again = SpeechClip.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 160, 160)
    images = model.encode_images(pixels)
    assert torch.equal(again.encode_images(pixels), images)
    output = model.train()(speech_batch(4_000, 3_000))
    assert output.parallel.shape == images.shape
    torch.stack(list(model.objective(output, images, torch.arange(2)).values())).sum().backward()
    assert model.clip.preprocess()(Image.new("RGB", (300, 200))).shape == (3, 160, 160)
    with pytest.raises(EncoderError, match="reads no text"):
        model.encode_text(["a dog"])


def test_missing_weights_say_how_to_provide_them(tmp_path):
    with pytest.raises(EncoderError, match="--clip PATH") as caught:
        build_clip(ClipConfig(pretrained=str(tmp_path / "none.pt")), VOCABULARY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tag", "expected"),
    [
        ("ViT-B-32", "openai", True),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B-32-quickgelu", "laion400m_e32", True),
        ("ViT-L-14", "openai", True),
        ("small", "", True),
        ("mini", "mini", False),
    ],
)
def test_the_activation_follows_the_weights_tag(name: str, tag: str, expected: bool):
    """Guards weights trained with GELU against QuickGELU, which loads and only embeds worse."""
    assert uses_quick_gelu(ClipConfig(name=name, pretrained=tag)) is expected


def test_the_shipped_clip_resizes_as_it_was_trained():
    """Guards a resizing that is asked for against being ignored."""
    config = ClipConfig(name="mini", pretrained="mini", image_resize="shortest")
    with pytest.raises(EncoderError, match="set model.clip.image_resize=longest"):
        build_clip(config, find_vocabulary("mini"))


def test_a_file_says_what_is_assumed(caplog: pytest.LogCaptureFixture):
    """Guards files, which do not say their activation."""
    assert uses_quick_gelu(ClipConfig(pretrained="somewhere/weights.pt"))
    assert "assuming QuickGELU" in caplog.text and "quick_gelu=false" in caplog.text
    caplog.clear()
    assert not uses_quick_gelu(ClipConfig(pretrained="somewhere/weights.pt", quick_gelu=False))
    assert not caplog.text


def test_an_activation_against_the_tag_warns(caplog: pytest.LogCaptureFixture):
    """Guards checkpoints that were trained so: the configuration wins, and is not silent."""
    assert uses_quick_gelu(ClipConfig(pretrained="laion2b_s34b_b79k", quick_gelu=True))
    assert "trained with GELU" in caplog.text


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> str:
    """Make the small architecture known to open_clip."""
    factory = open_clip.factory
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", WHOLE)
    return "tiny"


class Program(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_program_in_place_of_weights_is_not_run(tiny: str, tmp_path):
    """Guards OpenAI's form of weights, which is a program: only the released files are run."""
    path = tmp_path / "openai.pt"
    torch.jit.save(torch.jit.script(Program()), path)
    with pytest.raises(EncoderError, match=r"not run: give open_clip_model\.safetensors") as caught:
        build_clip(ClipConfig(name=tiny, pretrained=str(path)), VOCABULARY)
    assert "\n" not in str(caught.value)


def test_weights_come_from_a_file(tiny: str, tmp_path):
    """Guards `--clip PATH`, and its activation."""
    path = tmp_path / "weights.pt"
    saved = small_clip(replace(SMALL, architecture=WHOLE, quick_gelu=False))
    torch.save(saved.clip.state_dict(), path)
    config = ClipConfig(name=tiny, pretrained=str(path), quick_gelu=False)
    loaded = build_clip(config, VOCABULARY).eval()
    torch.testing.assert_close(loaded.encode_text(["a dog"]), saved.encode_text(["a dog"]))
    gelu = build_clip(replace(config, quick_gelu=None), VOCABULARY).eval()
    assert not torch.allclose(gelu.encode_text(["a dog"]), saved.encode_text(["a dog"]))


@pytest.mark.parametrize(("name", "tag"), [("MobileCLIP2-S0", "dfndr2b"), ("ViT-L-14", "openai")])
def test_images_are_prepared_for_a_file_as_for_its_tag(name: str, tag: str, caplog):
    """Guards against OpenAI's mean and deviation for weights that were trained with others."""
    found = _preprocessing(ClipConfig(name=name, pretrained="/some/weights.safetensors"))
    wanted = open_clip.get_pretrained_cfg(name, tag)
    assert found and all(wanted[key] == value for key, value in found.items())
    assert found == _preprocessing(ClipConfig(name=name, pretrained=tag))
    assert ("laion2b_s32b_b82k" in caplog.text) == (name == "ViT-L-14"), "trained with others"
