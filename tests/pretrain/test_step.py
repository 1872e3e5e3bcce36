"""One step: the gathered objective in rows, and batches larger than memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_corpus import SMALL, write_flickr8k
from small_runs import arguments, losses, run

from s3prl_speechclip.data.batches import collate_speech
from s3prl_speechclip.encoders.vocabulary import find_vocabulary
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import ObjectiveConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.losses import MaskedInfoNCE
from s3prl_speechclip.pretrain.config import PretrainConfig, resolve_config
from s3prl_speechclip.pretrain.step import PretrainStep, backward_in_chunks
from s3prl_speechclip.runtime.devices import build_fabric
from s3prl_speechclip.structures import PairBatch, StepOutput

COLOURS = ("red", "green", "blue", "white", "black", "brown", "pink")
TEXTS = tuple(f"a {colour} dog" for colour in COLOURS)
STILL = (
    "model.attention.dropout=0.0,,model.cif.dropout=0.0,,model.keywords.projection_dropout=0.0,,"
    "model.keywords.norm=none,,model.speech_encoder.architecture.hidden_dropout=0.0,,"
    "model.speech_encoder.architecture.attention_dropout=0.0"
)


def small(variant: str, overrides: str = STILL) -> PretrainConfig:
    return resolve_config(variant, "mini_scratch", f"{SMALL},,{overrides}")


def make(variant: str, overrides: str = STILL) -> tuple[PretrainStep, PairBatch]:
    """A small model that is trained whole, and a batch of seven rows on five images."""
    torch.manual_seed(0)
    config = small(variant, overrides).model
    module = PretrainStep(SpeechClip(config, find_vocabulary(config.clip.vocabulary, TEXTS)))
    batch = PairBatch(
        speech=collate_speech([0.1 * torch.randn(4000 + 300 * n) for n in range(7)]),
        images=torch.rand(7, 3, 64, 64),
        pair_ids=torch.tensor([0, 1, 1, 2, 3, 4, 0]),
        texts=TEXTS,
    )
    return module.train(), replace(batch, indices=torch.arange(7))


def gradients(module: PretrainStep) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def step(module: PretrainStep, batch: PairBatch, chunks: int) -> StepOutput:
    module.zero_grad()
    torch.manual_seed(1)
    if chunks > 1:
        fabric = build_fabric("cpu", "fp32")
        return backward_in_chunks(fabric, module, batch, 0, chunks, 1.0)
    output = module(batch, 0)
    output.loss.backward()
    return output


FROZEN = f"{STILL},,model.speech_encoder.trainable=false,,model.clip.trainable=false"
REPEATS = f"{FROZEN},,model.objective.repetition_weight=0.5"


@pytest.mark.parametrize(
    ("variant", "overrides", "chunks", "tolerance"),
    [
        ("speechclip_parallel", FROZEN, 2, 1e-6),
        ("speechclip_hybrid_plus", FROZEN, 3, 1e-6),
        ("speechclip_hybrid", REPEATS, 3, 1e-6),
        ("speechclip_hybrid_plus", REPEATS, 3, 1e-6),
        # Sums over texts and frames in another order, through whole encoders; the last chunk is 1.
        ("speechclip_hybrid_plus", STILL, 3, 1e-5),
    ],
)
def test_a_step_in_chunks_is_the_step(
    variant: str, overrides: str, chunks: int, tolerance: float
) -> None:
    """Guards gradient caching: the same losses, and the same gradients of all parameters.

    Dropout and the keywords' batch norm, which see a chunk at a time, are off.
    """
    module, batch = make(variant, overrides)
    whole = step(module, batch, 1)
    expected = gradients(module)
    found = step(module, batch, chunks)
    assert found.losses.keys() == whole.losses.keys()
    for name, value in whole.losses.items():
        torch.testing.assert_close(found.losses[name], value.detach(), atol=1e-6, rtol=1e-6)
    again = gradients(module)
    assert again.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(again[name], value, atol=tolerance, rtol=1e-5, msg=name)


@pytest.mark.parametrize("decoupled", [False, True])
def test_rows_of_all_processes_make_the_whole_loss(decoupled: bool) -> None:
    """Guards the loss over torchrun: each process has its rows, and their mean is the loss."""
    torch.manual_seed(0)
    config = ObjectiveConfig(decoupled=decoupled, margin=0.1)
    loss = MaskedInfoNCE(config)
    speech, images = (
        torch.nn.functional.normalize(torch.randn(6, 8), dim=1).requires_grad_() for _ in range(2)
    )
    ids = torch.tensor([0, 1, 1, 2, 0, 3])
    whole = loss(speech, images, ids)
    shares = [loss(speech, images, ids, slice(rank, None, 2)) for rank in range(2)]
    torch.testing.assert_close(sum(shares) / 2, whole)
    expected = torch.autograd.grad(whole, (speech, images))
    found = torch.autograd.grad(sum(shares) / 2, (speech, images))
    torch.testing.assert_close(found, expected)


def test_a_batch_has_at_least_one_chunk() -> None:
    """Guards against a division by zero in the middle of a run."""
    with pytest.raises(ConfigError, match="gradient_cache must be at least 1"):
        small("speechclip_parallel", "runner.gradient_cache=0")


def test_a_run_in_chunks_is_the_run(tmp_path: Path) -> None:
    """Guards the loop: clipping, accumulation and the optimiser see the whole batch's gradient."""
    corpus = write_flickr8k(tmp_path / "flickr8k")
    for chunks in (1, 4):
        changes = f"{STILL},,runner.gradient_cache={chunks},,runner.gradient_accumulate_steps=2"
        argv = arguments(corpus, tmp_path / str(chunks), 3, "--device", "cpu", overrides=changes)
        run(*argv, "-u", "speechclip_parallel")
    assert losses(tmp_path / "4") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
