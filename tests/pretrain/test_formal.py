"""Formal supervision of a run: whose captions judge whose speech, and what it is refused for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import small_config, small_model, speech_batch

from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import ObjectiveConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.pretrain.config import PretrainConfig
from s3prl_speechclip.pretrain.formal import FormalSupervision, caption_rows

BOTH = ObjectiveConfig(perplexity_weight=0.5, adversarial_weight=0.5)


def corpus(root: Path, images: int = 40) -> Manifest:
    """Two recordings of each image, whose caption is one `a` more than the image's number."""
    utterances = tuple(
        Utterance(
            utterance_id=f"{pair}-{take}",
            audio=f"{pair}-{take}.wav",
            image=f"{pair}.png",
            pair_id=pair,
            text=" ".join(["a"] * (pair + 1)),
            split="train",
        )
        for pair in range(images)
        for take in range(2)
    )
    return Manifest(corpus="made", root=root, utterances=utterances)


def supervise(root: Path, variant: str, **changes: int) -> tuple[FormalSupervision, SpeechClip]:
    model = small_model(variant, objective=BOTH).train()
    config = PretrainConfig(model=small_config(variant, objective=BOTH))
    return FormalSupervision(config, corpus(root, **changes), model, {}), model


def test_captions_are_never_those_of_the_speech_they_judge(tmp_path: Path) -> None:
    """Fault: supervision that should know nothing of what was said is paired with it."""
    formal, model = supervise(tmp_path, "speechclip_words")
    manifest = corpus(tmp_path)
    lent = [len(rows) for rows in caption_rows(manifest, model)]
    assert lent == [pair + 1 for pair in range(1, 40, 2)]  # once an image, not once a recording
    output = model(speech_batch(9_000, 8_000, 7_000))
    pairs = torch.tensor([0, 1, 3])
    losses = formal.losses(output.keywords, pairs)
    grads = torch.autograd.grad(sum(losses.values()), output.keywords.probabilities)[0]
    assert grads[0].any() and not grads[1:].any()
    assert formal.losses(output.keywords, torch.tensor([1, 3, 5])).get("perplexity") == 0


def test_critics_are_not_trained_by_the_models_loss(tmp_path: Path) -> None:
    """Fault: the discriminator learns to be fooled, or the optimiser of the run moves it."""
    formal, model = supervise(tmp_path, "speechclip_cascaded")
    output = model(speech_batch(9_000, 8_000))
    pairs = torch.tensor([0, 2])
    before = [p.clone() for p in formal.discriminator.parameters()]
    torch.stack([*formal.losses(output.keywords, pairs).values()]).sum().backward()
    assert all(p.grad is None for p in formal.language_model.parameters())
    assert all(p.grad is None for p in formal.discriminator.parameters())
    assert model.branch.head.projection[0].weight.grad.any()
    assert formal.learn(output.keywords, pairs, 0)["discriminator"] > 0
    after = [*formal.discriminator.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_random_numbers_of_a_run_do_not_depend_on_supervision(tmp_path: Path) -> None:
    """Fault: runs with and without it differ in dropout and batches as well."""
    torch.manual_seed(3)
    model = small_model("speechclip_cascaded", objective=BOTH)
    config = PretrainConfig(model=model.config)
    state = torch.get_rng_state()
    FormalSupervision(config, corpus(tmp_path), model, {})
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("variant", "images", "message"),
    [
        ("speechclip_parallel", 40, "speechclip_parallel has no keywords"),
        ("speechclip_words", 20, "needs 16 English captions .* of made, found 10"),
    ],
)
def test_what_cannot_be_supervised_is_an_error(
    tmp_path: Path, variant: str, images: int, message: str
) -> None:
    """Fault: a weight that changes nothing, or a traceback."""
    with pytest.raises(ConfigError, match=message):
        supervise(tmp_path, variant, images=images)


def test_a_language_model_that_was_never_trained_is_trained_later(tmp_path: Path) -> None:
    """Fault: perplexity is added to a run that had none, and judged by word counts alone."""
    adversarial = ObjectiveConfig(adversarial_weight=0.5)
    model = small_model("speechclip_words", objective=BOTH).train()
    before = PretrainConfig(model=small_config("speechclip_words", objective=adversarial))
    state = FormalSupervision(before, corpus(tmp_path), model, {}).state()
    after = PretrainConfig(model=small_config("speechclip_words", objective=BOTH))
    resumed = FormalSupervision(after, corpus(tmp_path), model, state)
    fresh = FormalSupervision(after, corpus(tmp_path), model, {})
    assert any(
        not torch.equal(value, resumed.language_model.state_dict()[name])
        for name, value in state["language_model"].items()
    )
    for name, value in fresh.language_model.state_dict().items():
        assert resumed.language_model.state_dict()[name].shape == value.shape
    again = FormalSupervision(after, corpus(tmp_path), model, resumed.state())
    for name, value in resumed.language_model.state_dict().items():
        assert torch.equal(again.language_model.state_dict()[name], value)


def test_a_step_that_is_no_number_leaves_the_discriminator(tmp_path: Path) -> None:
    """Fault: one bad batch, which the run skips, spoils the discriminator for good."""
    formal, model = supervise(tmp_path, "speechclip_words")
    keywords = model(speech_batch(9_000, 8_000)).keywords
    before = {n: v.clone() for n, v in formal.discriminator.state_dict().items()}
    bad = replace(keywords, embeddings=torch.full_like(keywords.embeddings, float("nan")))
    formal.learn(bad, torch.tensor([0, 2]), 1)
    for name, value in formal.discriminator.state_dict().items():
        assert torch.equal(value, before[name])
    formal.learn(keywords, torch.tensor([0, 2]), 2)
    assert any(not torch.equal(v, before[n]) for n, v in formal.discriminator.state_dict().items())
