"""The model card of the mini CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...structures import TaskResult
from ..pictures import SOURCES
from .clip import ARCHITECTURE, TrainedClip
from .clip_release import KS, TRUNK_PACKAGE

STAMPS_LICENCE = "GPL-2"


def clip_card(trained: TrainedClip, recall: TaskResult, hardware: str) -> str:
    """Write the card, Markdown with the Hub's header.

    Args:
        trained: the model.
        recall: what `evaluate_clip` measured.
        hardware: that it was trained on.
    """
    config, batches, loop = trained.config, trained.config.batches, trained.config.loop
    text = ARCHITECTURE["text_cfg"]
    parameters = sum(p.numel() for p in trained.encoder.parameters() if p.requires_grad)
    return "\n".join(
        [
            "---",
            "library_name: open_clip",
            "license: gpl-2.0",
            "tags: [clip, image-text retrieval, mini]",
            "---",
            "",
            "# Mini CLIP",
            "",
            "A CLIP (arXiv 2103.00020) small enough to train and to run on a laptop: a text tower "
            f"of {text['layers']} layers of width {text['width']} over "
            f"{len(trained.encoder.vocabulary):,} of CLIP's BPE tokens, and a linear projection of "
            "an ImageNet EfficientNet-lite0 that stays frozen and comes from its own package on "
            f"PyPI, {TRUNK_PACKAGE}. {parameters / 1e6:.1f} million trained parameters, stored in "
            "float16. Tokens that the table lacks are spelled in letters. It exists so that "
            "speech-image models can be trained and tested without a model hub.",
            "",
            "## Data",
            "",
            "| source | pictures | licence |",
            "|---|---|---|",
            *(
                f"| {name} | {count:,} | {_licence(name)} |"
                for name, count in trained.sources.items()
            ),
            "",
            *(f"- {note}" for note in trained.notes),
            "- names and definitions of ImageNet's 1,000 classes (WordNet, as timm carries them), "
            "and what the trunk's own classifier says of every picture",
            "",
            "## Training",
            "",
            "CLIP's contrastive loss between pictures and texts (captions, tags, or both), in "
            "which what shares a name is not contrasted. Classes of ImageNet join in twice: their "
            "names are contrasted with prototypes that are computed from the classifier's weights "
            "and the features' covariance, and pictures are to be named as the classifier names "
            "them, so that words which no caption has get their place.",
            "",
            f"{loop.total_steps:,} steps of {batches.batch_size} pictures "
            f"({batches.corpus_share:.0%} of them stamps) and {batches.classes} classes; "
            f"AdamW, peak rate {loop.optimizer.lr:g}, weight decay "
            f"{loop.optimizer.weight_decay:g}; dropout {config.feature_dropout:g} on features. "
            f"Seed {trained.seed}; {trained.seconds / 60:.0f} minutes on {hardware}.",
            "",
            "## Scores",
            "",
            "Zero-shot recall on stamps that training never saw, in percent, both directions "
            "averaged, from `benchmarks/results/mini/clip.json`. The recipe was made by looking at "
            "`dev_image`; nothing was chosen by `test_image`.",
            "",
            *_scores(recall.metrics),
            "",
            "## Limits",
            "",
            "It knows a few thousand English words, mostly names of things, and pictures of one "
            "thing on white; of scenes, relations, numbers and other languages it knows next to "
            "nothing. Its figures say nothing of published CLIP models. Captions of the held-out "
            "stamps were not read; that other pictures show the same kinds of things, under the "
            "same names, is the point. Stamps of the training split may be drawn by the same "
            "artists as held-out ones.",
            "",
        ]
    )


def _licence(source: str) -> str:
    return SOURCES[source].licence if source in SOURCES else STAMPS_LICENCE


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| split | model | {' | '.join(f'recall@{k}' for k in KS)} |",
        "|---" * (len(KS) + 2) + "|",
    ]
    for split, found in metrics.items():
        for model in ("trained", "untrained", "chance"):
            cells = [f"{found[model]['mean'][f'recall@{k}']:.1f}" for k in KS]
            label = f"{split} ({found['images']} images)"
            rows.append(f"| {label} | {model} | {' | '.join(cells)} |")
    return rows
