"""s3prl's upstreams by name, this project's among them, and the choice of their features."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertModel, Wav2Vec2Model
from transformers.modeling_outputs import BaseModelOutput

from ..checkpoints.locate import find_checkpoint
from ..encoders.speech import tensors_only
from ..errors import ConfigError, SpeechClipError, unknown_name
from ..hashing import file_hash
from ..structures import SAMPLE_RATE
from ..upstream.speechclip.expert import UpstreamExpert
from .compat import quiet
from .upstream_names import LOCAL, check_upstream

FRAMES = 3  # axes of frames: (B, T, D)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder of transformers


@dataclass(frozen=True)
class Upstream:
    """An upstream, ready for use."""

    module: nn.Module
    """In evaluation mode, on its device."""
    name: str
    size: str
    """Size of this project's models, such as base; empty for others."""
    source: str
    """Origin of its weights; empty for one without."""
    digest: str
    """SHA-256 of the file that holds them; empty where that is not known."""
    weights: str = ""
    """Value of `-k` that finds the same weights again, from any working directory."""
    batch_invariant: bool | None = None
    """See `UpstreamConfig`; None for others than this project's models."""

    @property
    def shown_source(self) -> str:
        """The source, relative where a reader on another machine can find it."""
        path = Path(self.source)
        package = Path(__file__).parents[2]
        for base in (Path.cwd(), package):
            if path.is_absolute() and path.is_relative_to(base):
                return path.relative_to(base).as_posix()
        return self.source


def load_upstream(
    name: str, ckpt: str | None, model_config: str | None, device: torch.device
) -> Upstream:
    """Build an upstream as s3prl does.

    Args:
        name: name on s3prl's hub.
        ckpt: value of `-k`.
        model_config: value of `-g`.
        device: device to put it on.

    Raises:
        ConfigError: there is no such upstream, it needs a package or an option that is not there,
            or it cannot be made.
        SpeechClipError: an error of this project's own upstreams.
    """
    check_upstream(name, ckpt)
    with quiet():
        hub = importlib.import_module("s3prl.hub")
    arguments: dict[str, Any] = {"ckpt": ckpt, "model_config": model_config, "refresh": False}
    try:
        with quiet(), tensors_only(), opened_files() as opened:
            module = vars(hub)[name](**arguments)
    except SpeechClipError:
        raise
    except Exception as error:
        # 180 upstreams of other people's, most of which fetch something first.
        text = " ".join(str(error).split())[:300]
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ConfigError(f"s3prl cannot make the upstream '{name}': {reason}") from error
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters()):
        module = module.float()  # s3prl feeds float32
    module = module.to(device).eval()
    if isinstance(module, UpstreamExpert):
        located = module.located
        return Upstream(
            module=module,
            name=name,
            size=module.size,
            source=located.source,
            digest=located.digest(),
            weights=_find_weights(located.source),
            batch_invariant=module.batch_invariant,
        )
    for part in module.modules():
        if isinstance(part, HubertModel | Wav2Vec2Model):
            part.register_forward_hook(_end_with_last_state)
    if ckpt is not None:
        _check_that_it_was_read(name, ckpt, opened)
    weights = os.path.abspath(ckpt) if ckpt and os.path.exists(ckpt) else ckpt or ""
    return Upstream(module, name, "", ckpt or "", _digest(ckpt), weights)


def _end_with_last_state(module: nn.Module, inputs: Any, output: BaseModelOutput) -> None:
    """Put the final layer norm's output last, as transformers 4 does, which s3prl is written for;
    transformers 5 returns what enters that norm."""
    if output.hidden_states is not None:
        output.hidden_states = (*output.hidden_states[:-1], output.last_hidden_state)


@contextlib.contextmanager
def opened_files() -> Iterator[set[str]]:
    """Collect the absolute paths of the files that are opened in a block."""
    global _recorder
    if _recorder is None:
        sys.addaudithook(_record)  # which cannot be removed
    _recorder = set()
    try:
        yield _recorder
    finally:
        _recorder = set()


_recorder: set[str] | None = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _recorder is not None and isinstance(arguments[0], (str, Path)):
        _recorder.add(os.path.abspath(arguments[0]))


def _check_that_it_was_read(name: str, ckpt: str, opened: Collection[str]) -> None:
    """Refuse a `-k` that s3prl's upstream did not read, so that no result names it."""
    path = os.path.abspath(ckpt)
    if os.path.exists(path):
        read = any(file == path or file.startswith(path + os.sep) for file in opened)
    else:
        read = name.endswith(LOCAL)  # an address, or a name on the Hub
    if not read:
        raise ConfigError(
            f"-u {name} does not read '{ckpt}': leave -k out, or name an upstream that takes "
            "weights, such as hubert_local or hf_hubert_custom"
        )


def _find_weights(source: str) -> str:
    """Return the checkpoint that an experiment's folder means now; later it may mean another."""
    path = Path(source)
    if not path.exists():  # a name on the Hub
        return source
    return str((find_checkpoint(path) if path.is_dir() else path).resolve())


def _digest(ckpt: str | None) -> str:
    path = Path(ckpt) if ckpt else None
    if path is not None and path.is_dir():
        path = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    return file_hash(path) if path is not None and path.is_file() else ""


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
