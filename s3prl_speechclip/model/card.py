"""Model cards: README.md beside a model's weights, from the template in `assets`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from .config import ModelConfig, find_variant

TEMPLATE = str(resources.files("s3prl_speechclip") / "assets" / "model_card.md")
UNKNOWN_LICENCE = "other"  # the Hub's word; the code's own licence does not cover weights
TRAINING = (
    ("Licences of the data", "data_licences"),
    ("Recordings", "recordings"),
    ("Hours of speech", "hours"),
    ("Images", "images"),
    ("Weights from", "source"),
    ("Step", "step"),
    ("Batch size", "batch_size"),
    ("Hardware", "hardware"),
    ("Seed", "seed"),
    ("SHA-256 of the source", "sha256"),
)
"""Rows of the card by key of `about`."""


def model_card(config: ModelConfig, about: Mapping[str, Any], trainable_parameters: int) -> str:
    """Write the card of a SpeechCLIP model.

    Args:
        config: configuration of the model.
        about: origin of its weights: `corpus`, `also` (corpora), the keys in `TRAINING`, `recall`
            (names and percent), `licence`, `limits` (sentences), as far as they are known.
        trainable_parameters: number of parameters that training changed.

    Returns:
        Markdown with the Hub's YAML header.
    """
    corpora = [str(name) for name in (about.get("corpus"), *about.get("also", ())) if name]
    tags = ["speech", "speech-image retrieval", "SpeechCLIP", config.variant]
    data = ModelCardData(
        library_name="s3prl_speechclip",
        license=about.get("licence", UNKNOWN_LICENCE),
        pipeline_tag="feature-extraction",
        tags=[*tags, "mini"] if config.size == "mini" else tags,
        datasets=corpora or None,
    )
    card = ModelCard.from_template(
        data,
        TEMPLATE,
        config=config,
        variant=find_variant(config.variant),
        about=about,
        corpora=corpora,
        trainable_parameters=trainable_parameters,
        training=TRAINING,
    )
    return str(card)
