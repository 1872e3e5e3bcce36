"""Errors that a user can cause.

Each says on one line what was expected, what was found and what to do. The command line prints
them without a traceback and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpeechClipError(Exception):
    """Base of all errors that a user can cause."""


class ConfigError(SpeechClipError):
    """A configuration key or value that cannot be used."""


class CorpusError(SpeechClipError):
    """A corpus that is missing, incomplete or not in its official layout."""


class AudioError(SpeechClipError):
    """A recording that cannot be read or used."""


class ImageError(SpeechClipError):
    """An image that cannot be read."""


class CheckpointError(SpeechClipError):
    """A checkpoint that is missing, incomplete, unsafe or of another model."""


class EncoderError(SpeechClipError):
    """A speech encoder or CLIP model that is not available."""


class TrainingError(SpeechClipError):
    """Training whose loss or gradient is no longer finite."""


class ResultError(SpeechClipError):
    """A result that is missing, inconsistent or not a number."""


def first_line(error: Exception) -> str:
    """Return the first line of another library's error, or its kind where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Describe an unknown name and the nearest known one, for an error message."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"unknown {what} '{name}'; {hint}"
