"""Visually grounded speech models of the SpeechCLIP family for s3prl."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import registration

if TYPE_CHECKING:
    from .benchmarks.shared.benchmark import evaluate as evaluate
    from .data.audio import read_audio as read_audio
    from .downstream.trained_probe import load_probe as load_probe
    from .model.speechclip import SpeechClip as SpeechClip

__version__ = "0.1.0"
__all__ = ["SpeechClip", "__version__", "evaluate", "load_probe", "read_audio"]

# torch and transformers take seconds to import; who only asks for the version need not wait.
LAZY = {
    "SpeechClip": "model.speechclip",
    "evaluate": "benchmarks.shared.benchmark",
    "load_probe": "downstream.trained_probe",
    "read_audio": "data.audio",
}

registration.install()


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
