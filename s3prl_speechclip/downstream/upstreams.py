"""s3prl's upstreams by name, this project's among them, and the choice of their features."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SpeechClipError, unknown_name
from ..hashing import file_hash
from ..structures import SAMPLE_RATE
from ..upstream.speechclip.expert import UpstreamExpert
from .compat import quiet

FRAMES = 3  # axes of frames: (B, T, D)
LOCAL = ("_local", "_url", "_custom", "_gdriveid")  # endings of names that need -k


@dataclass(frozen=True)
class Upstream:
    """An upstream, ready for use."""

    module: nn.Module
    """In evaluation mode, on its device."""
    name: str
    size: str
    """Of this project's models, such as base; empty for others."""
    source: str
    """Where its weights came from; empty for one without."""
    digest: str
    """SHA-256 of the file that holds them; empty where that is not known."""

    @property
    def shown_source(self) -> str:
        """The source, relative where a reader on another machine can find it."""
        path = Path(self.source)
        package = Path(__file__).parents[2]
        for base in (Path.cwd(), package):
            if path.is_absolute() and path.is_relative_to(base):
                return path.relative_to(base).as_posix()
        return self.source


def hub_names() -> list[str]:
    """Return the names that `-u` takes."""
    return sorted(_factories())


def load_upstream(
    name: str, ckpt: str | None, model_config: str | None, device: torch.device
) -> Upstream:
    """Build an upstream as s3prl does.

    Args:
        name: of s3prl's hub.
        ckpt: value of `-k`.
        model_config: value of `-g`.
        device: to put it on.

    Raises:
        ConfigError: there is no such upstream, it needs a package or an option that is not there,
            or it cannot be made.
        SpeechClipError: an error of this project's own upstreams.
    """
    factories = _factories()
    if name not in factories:
        raise ConfigError(unknown_name("upstream", name, factories))
    if ckpt is None and name.endswith(LOCAL):
        raise ConfigError(f"-u {name} needs its weights: give them with -k")
    # s3prl's baselines take nothing but their own options, and the others want all three.
    arguments: dict[str, Any] = {"ckpt": ckpt, "model_config": model_config, "refresh": False}
    try:
        with quiet():
            module = factories[name](**arguments)
    except SpeechClipError:
        raise
    except Exception as error:
        # 180 upstreams of other people's, most of which fetch something first.
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ConfigError(f"s3prl cannot make the upstream '{name}': {reason}") from error
    module = module.to(device).eval()
    if isinstance(module, UpstreamExpert):
        located = module.located
        return Upstream(module, name, module.size, located.source, located.digest())
    digest = file_hash(Path(ckpt)) if ckpt and Path(ckpt).is_file() else ""
    return Upstream(module, name, "", ckpt or "", digest)


def _factories() -> dict[str, Callable[..., nn.Module]]:
    importlib.import_module("s3prl_speechclip")  # registers this project's names
    with quiet():
        hub = importlib.import_module("s3prl.hub")
    return {
        name: value
        for name, value in vars(hub).items()
        if callable(value) and not name.startswith("_") and name != "options"
    }


def check_selection(
    upstream: nn.Module, selection: str, layer: int | None, device: torch.device
) -> int:
    """Check `-s` and `-l` against an upstream's output, and count the chosen states.

    Raises:
        ConfigError: its output has no such entry or layer, or no frames under that name.
    """
    with torch.no_grad():
        features = upstream([torch.zeros(SAMPLE_RATE, device=device)])
    if selection not in features:
        raise ConfigError(f"-s: {unknown_name('feature', selection, map(str, features))}")
    states = as_states(features[selection])
    if not states or any(not isinstance(s, Tensor) or s.dim() != FRAMES for s in states):
        raise ConfigError(
            f"-s {selection} gives no frames (recordings x frames x width), which the downstream "
            "tasks need; take hidden_states or last_hidden_state"
        )
    count = len(states)
    if layer is not None and not -count <= layer < count:
        raise ConfigError(f"-l is from {-count} to {count - 1} with -s {selection}, found {layer}")
    if layer is None and len({state.shape[-1] for state in states}) > 1:
        raise ConfigError(f"-s {selection} gives states of several widths; choose one with -l")
    return count


def as_states(feature: Any) -> list[Tensor]:
    """List the states of an upstream's entry, which s3prl allows to be one, several or named."""
    if isinstance(feature, Mapping):
        return list(feature.values())
    return list(feature) if isinstance(feature, (list, tuple)) else [feature]
