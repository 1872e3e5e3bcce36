"""The card that goes with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model_config import ModelConfig


def model_card(config: ModelConfig, about: Mapping[str, Any], trainable_parameters: int) -> str:
    """Write a model card."""
    return f"---\nlibrary_name: s3prl-speechclip\n---\n# {config.variant}\n"
