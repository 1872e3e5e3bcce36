"""Visually grounded speech models of the SpeechCLIP family for s3prl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import registration

if TYPE_CHECKING:
    from .benchmarks.shared.benchmark import evaluate as evaluate
    from .model.speechclip import SpeechClip as SpeechClip

__version__ = "0.1.0"
__all__ = ["SpeechClip", "__version__", "evaluate"]

registration.install()


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import; who only asks for the version need not wait.
    if name == "SpeechClip":
        from .model.speechclip import SpeechClip

        return SpeechClip
    if name == "evaluate":
        from .benchmarks.shared.benchmark import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
