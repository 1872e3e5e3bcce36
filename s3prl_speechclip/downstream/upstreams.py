"""s3prl's upstreams by name, this project's among them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, SpeechClipError, unknown_name
from ..hashing import file_hash
from .experts import quiet

LOCAL = ("_local", "_url", "_custom", "_gdriveid")  # endings of names that need -k


@dataclass(frozen=True)
class Upstream:
    """An upstream that was made."""

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
        """The source as a reader on another machine understands it."""
        path = Path(self.source)
        package = Path(__file__).parents[2]
        for base in (Path.cwd(), package):
            if path.is_absolute() and path.is_relative_to(base):
                return path.relative_to(base).as_posix()
        return self.source


def hub_names() -> list[str]:
    """Name the upstreams that `-u` takes."""
    return sorted(_factories())


def load_upstream(
    name: str, ckpt: str | None, model_config: str | None, device: torch.device
) -> Upstream:
    """Make an upstream as s3prl does.

    Args:
        name: of s3prl's hub.
        ckpt: what `-k` said.
        model_config: what `-g` said.
        device: to put it on.

    Raises:
        ConfigError: there is no such upstream, it needs a package or an option that is not there,
            or it cannot be made.
        SpeechClipError: what this project's own upstreams have to say.
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
    located = getattr(module, "located", None)
    if located is not None:
        size = str(getattr(module, "size", ""))
        return Upstream(module, name, size, located.source, located.digest())
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
