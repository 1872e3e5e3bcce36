"""A model on disk: a folder with `config.json` and `model.safetensors`.

`config.json` holds the configuration and where the weights come from, `model.safetensors` the
trained weights. An encoder that is frozen, large and available elsewhere is named with its hash
instead of being copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..atomic import atomic_file
from ..config import build, plain
from ..errors import CheckpointError, ConfigError
from ..model.config import ModelConfig
from .locate import CONFIG_FILE, WEIGHTS_FILE

FORMAT = 1
VOCABULARY_KEY = "clip.vocabulary"
INSIDE_LIMIT = 64 * 2**20  # bytes; a smaller frozen encoder is copied into the checkpoint


@dataclass(frozen=True)
class StoredModel:
    """A model as files hold it."""

    config: ModelConfig
    state: Mapping[str, Tensor]
    """Weights by the model's own names, without those of `encoders`."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each encoder that is not in `state`, by its name in the model."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: corpus, step, recall, seed."""

    @property
    def vocabulary(self) -> Tensor:
        """Original BPE ids of the codebook, (V,)."""
        if VOCABULARY_KEY not in self.state:
            raise CheckpointError(f"the checkpoint's weights lack '{VOCABULARY_KEY}'")
        return self.state[VOCABULARY_KEY]


def write_checkpoint(folder: Path, stored: StoredModel, *, half: bool = False) -> None:
    """Write a checkpoint folder; each file appears whole or not at all.

    Args:
        folder: created if it is missing.
        stored: the model.
        half: whether to store matrices as float16, for distribution; biases, norms and statistics,
            which are small and can be tiny, stay as they are. A loaded model computes in float32
            either way.

    Raises:
        CheckpointError: the folder cannot be written, with the system's reason, or a weight does
            not fit float16.
    """
    about = {
        "format": FORMAT,
        "model": plain(stored.config),
        "encoders": dict(stored.encoders),
        "about": dict(stored.about),
    }
    weights = {name: value.detach().contiguous().cpu() for name, value in stored.state.items()}
    if half:
        weights = {name: _half(name, value) for name, value in weights.items()}
    try:
        with atomic_file(folder / WEIGHTS_FILE) as partial:
            save_file(weights, partial, metadata={"format": "pt"})
        with atomic_file(folder / CONFIG_FILE) as partial:
            text = json.dumps(about, indent=2, ensure_ascii=False)
            partial.write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint '{folder}': {error}") from error


def _half(name: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or value.dtype != torch.float32:
        return value
    narrow = value.half()
    if not narrow.isfinite().all():
        raise CheckpointError(
            f"the weights '{name}' do not fit float16 (largest {float(value.abs().max()):.3g}); "
            "store them as float32"
        )
    return narrow


def read_checkpoint(folder: Path) -> StoredModel:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: a file is missing, damaged or of another format.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"'{folder}' is not a checkpoint: it lacks {name}; give an experiment folder, a "
                "checkpoint folder, an official .ckpt or a Hub id"
            )
    try:
        about = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or "model" not in about:
            raise ValueError("expected an object with 'format' and 'model'")
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"'{folder}' is a checkpoint of format {about.get('format')}, this version reads "
                f"{FORMAT}"
            )
        config = build(ModelConfig, about["model"], "model")
    except (ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"'{folder / CONFIG_FILE}' cannot be read: {error}") from error
    try:
        state = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"'{folder / WEIGHTS_FILE}' is damaged: {error}") from error
    return StoredModel(config, state, about.get("encoders", {}), about.get("about", {}))
