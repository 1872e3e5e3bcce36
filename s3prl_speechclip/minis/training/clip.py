"""The mini CLIP: a text tower and an image projection that learn on a frozen ImageNet trunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.manifest import Manifest
from ...encoders.clip import EFFICIENTNET, ClipEncoder, build_clip
from ...encoders.efficientnet import imagenet_classifier
from ...encoders.vocabulary import SPECIAL_TOKENS, corpus_vocabulary, encode, tokenizer
from ...losses import MaskedInfoNCE
from ...model.config import ClipConfig, ObjectiveConfig
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...structures import StepOutput
from ..pictures import PictureSet
from .clip_batches import Batch, BatchConfig, Batches
from .clip_data import Example, ImageClass, image_classes, training_examples, trunk_features
from .loop import LoopConfig, train

ARCHITECTURE: Mapping[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 224,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "text_cfg": {"context_length": 77, "width": 256, "heads": 4, "layers": 2},
}
RARE = 2  # a token of tags, titles or definitions that fewer texts have is spelled
CHUNKS = 3  # that texts are embedded in, by length, so that short ones are padded little
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"


@dataclass(frozen=True, kw_only=True)
class ClipTrainingConfig:
    batches: BatchConfig = field(default_factory=BatchConfig)
    feature_dropout: float = 0.2
    """Of the trunk's features, against learning pictures by heart."""
    distillation: float = 1.0
    """Weight of naming pictures as ImageNet's classifier does."""
    prototype_scale: float = 1.0
    """How far from the mean picture a class' prototype lies, in units of what its classifier
    says."""
    temperature: float = 0.07
    """Of the contrast, where learning starts."""
    max_logit_scale: float = 50.0
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            total_steps=300,
            optimizer=OptimizerConfig(name="adamw", lr=1.5e-3, weight_decay=0.1, betas=(0.9, 0.98)),
            scheduler=SchedulerConfig(warmup_steps=30, final_lr=1e-5),
            log_step=20,
            save_step=60,
            precision="fp32",
        )
    )


def clip_vocabulary(examples: Sequence[Example], classes: Sequence[ImageClass]) -> Tensor:
    """Choose the tokens of the mini CLIP: those of what it reads, rare ones aside, and letters.

    Returns:
        (V,) int64, original BPE ids, the most frequent first.
    """
    named = {c for e in examples if e.source != "clipart" for c in e.captions}
    named |= {name for c in classes for name in c.names}
    texts = {c for e in examples for c in (*e.captions, *e.tags)} | named
    texts |= {c.definition for c in classes}
    counts = Counter(token for text in texts for token in set(encode(text)))
    kept = {token for text in named for token in encode(text)}
    kept |= {token for token, count in counts.items() if count >= RARE}
    kept |= {tokenizer().encoder[letter + end] for letter in LETTERS for end in ("", "</w>")}
    ordered = corpus_vocabulary(sorted(texts))
    known = [token for token in ordered.tolist() if token in kept or token in SPECIAL_TOKENS]
    return torch.tensor([*known, *sorted(kept - set(known))])


def untrained_clip(vocabulary: Tensor, seed: int = 0) -> ClipEncoder:
    """Make the mini CLIP with its trunk's ImageNet weights and all else random."""
    torch.manual_seed(seed)
    config = ClipConfig(
        name="mini",
        pretrained=EFFICIENTNET,
        architecture=dict(ARCHITECTURE),
        quick_gelu=False,
        trainable=True,
        image_resize="longest",
    )
    return build_clip(config, vocabulary)


class Naming(nn.Module):
    """The mini CLIP and its objective.

    Pictures and texts are contrasted as in CLIP. ImageNet's classes join in twice: their names are
    contrasted with prototypes in the trunk's feature space, and every picture is to be named as
    the trunk's own classifier names it, so that words no caption has get their place too.

    Args:
        encoder: what is trained.
        features: the trunk's of N pictures, (N, F).
        config: of the objective.
    """

    def __init__(self, encoder: ClipEncoder, features: Tensor, config: ClipTrainingConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.contrast = MaskedInfoNCE(
            ObjectiveConfig(temperature=config.temperature, max_logit_scale=config.max_logit_scale)
        )
        weight, bias = imagenet_classifier()
        self.features: Tensor
        self.named: Tensor
        self.prototypes: Tensor
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("named", features @ weight.T + bias, persistent=False)
        made = class_prototypes(features, weight, config.prototype_scale)
        self.register_buffer("prototypes", made, persistent=False)

    def forward(self, batch: Batch) -> StepOutput:
        """Contrast a batch and name its pictures."""
        encoder, config = self.encoder, self.config
        shown = torch.cat([self.features[batch.rows], self.prototypes[batch.classes]])
        shown = F.dropout(shown, config.feature_dropout, self.training)
        images = encoder.embed_image_features(shown)
        texts = self._embed(batch.texts)
        contrast = self.contrast(texts, images, batch.pair_ids.to(texts.device))

        pictures, names = images[: len(batch.rows)], texts[len(batch.rows) :]
        said = self.contrast.logit_scale * pictures @ names.T
        known = self.named[batch.rows][:, batch.classes].softmax(-1)
        naming = F.cross_entropy(said.float(), known)
        right = (texts @ images.T).argmax(1).cpu() == torch.arange(len(texts))
        return StepOutput(
            {"contrast": contrast, "naming": config.distillation * naming},
            {
                "accuracy": float(right[: len(batch.rows)].float().mean()),
                "logit_scale": float(self.contrast.logit_scale.detach()),
            },
        )

    def _embed(self, texts: Sequence[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        chunks = torch.tensor(order).chunk(CHUNKS)
        embedded = [self.encoder.encode_text([texts[row] for row in rows]) for rows in chunks]
        return torch.cat(embedded)[torch.tensor(order).argsort()]


def class_prototypes(features: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Guess what the trunk's features of each class are like, from the classifier's weights.

    Were features normally distributed with one covariance S in all classes, the best classifier's
    weights would be S^-1 (m_c - m): so m_c = m + S w_c, with S and m of the pictures at hand.

    Args:
        features: of many pictures, (N, F).
        weight: of the classifier, (C, F).
        scale: multiplies the distance from m.

    Returns:
        (C, F), not negative, as the trunk's are.
    """
    middle = features.mean(0)
    covariance = torch.cov(features.T)
    steps = (weight - weight.mean(0)) @ covariance
    return (middle + scale * steps).clamp_min(0)


@dataclass(frozen=True)
class TrainedClip:
    """A trained mini CLIP."""

    encoder: ClipEncoder
    config: ClipTrainingConfig
    seed: int
    sources: Mapping[str, int]
    """Pictures by source."""
    notes: tuple[str, ...]
    """What was left out, and which versions of the packages were read."""
    seconds: float
    """Of training, without preparing pictures and features."""


def train_clip(
    manifest: Manifest,
    pictures: PictureSet,
    folder: Path,
    config: ClipTrainingConfig | None = None,
    device: str = "auto",
    seed: int = 0,
) -> TrainedClip:
    """Train the mini CLIP from nothing but its trunk; a folder that holds a run is gone on with.

    Args:
        manifest: the default corpus; its training split is learned from.
        pictures: learned from too, but for those that look like a held-out one.
        folder: for log and checkpoint.
        config: of objective and run.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        seed: of weights, batches and dropout.
    """
    config = config or ClipTrainingConfig()
    examples, notes = training_examples(manifest, pictures)
    classes = image_classes()
    encoder = untrained_clip(clip_vocabulary(examples, classes), seed)
    naming = Naming(encoder, trunk_features(encoder, examples), config)
    batches = Batches(examples, classes, naming.named, config.batches, seed)
    seconds = train(
        naming, lambda step: naming(batches.batch(step)), config.loop, folder, device, seed
    )
    return TrainedClip(
        encoder.cpu().eval(),
        config,
        seed,
        Counter(example.source for example in examples),
        tuple(notes),
        seconds,
    )
