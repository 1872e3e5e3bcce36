"""A user's request, as the command line or a program makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError

RESULTS = Path("result") / "downstream"  # where experiments lie by default
SWEEP = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # learning rates that SUPERB allows to choose from on dev
DEFAULTS: Mapping[str, Any] = {
    "task": "fluent_commands",
    "upstream": "speechclip_hybrid",
    "selection": "hidden_states",
    "normalize": False,
    "trainable": False,
    "seed": 1337,
}
S3PRL: Mapping[str, str] = {
    "task": "downstream",
    "upstream": "upstream",
    "checkpoint": "upstream_ckpt",
    "upstream_config": "upstream_model_config",
    "selection": "upstream_feature_selection",
    "layer": "upstream_layer_selection",
    "normalize": "upstream_feature_normalize",
    "trainable": "upstream_trainable",
    "variant": "downstream_variant",
    "seed": "seed",
}
"""s3prl's names of the fields that a checkpoint keeps."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A user's request; None where nothing was given."""

    task: str | None = None
    upstream: str | None = None
    checkpoint: str | None = None
    upstream_config: str | None = None
    selection: str | None = None
    """Entry of the upstream's output."""
    layer: int | None = None
    normalize: bool | None = None
    trainable: bool | None = None
    variant: str | None = None
    seed: int | None = None
    config: Path | None = None
    override: str = ""
    data_root: str | None = None
    archive: str | None = None
    name: str | None = None
    folder: Path | None = None
    past: Path | None = None
    auto_resume: bool = False
    evaluate: bool = False
    splits: tuple[str, ...] = ()
    """Splits of `-m evaluate`; empty: the configuration's."""
    sweep: tuple[float, ...] = ()
    """Learning rates to choose from on dev."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"--seed must not be negative, found {self.seed}")
        if any(not rate > 0 for rate in self.sweep):
            raise ConfigError(f"--lr-sweep: learning rates are above 0, found {min(self.sweep)}")
