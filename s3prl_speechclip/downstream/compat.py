"""Names that s3prl 0.4.18 uses and today's packages no longer have.

`apply()` supplies it, each thing only where it is missing, so that it does nothing beside a
torchaudio or an s3prl that has it. s3prl's files are left as they are, and its
`main()` is never called: it replaces `builtins.isinstance`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import logging
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor

from ..data.audio import read_channels
from . import ctc_corpora, sox_effects
from .tasks import libriphone, snips

logger = logging.getLogger(__name__)

CTC_CORPORA = "s3prl.downstream.ctc.corpus"


def apply() -> tuple[str, ...]:
    """Make s3prl importable and its data sets readable; calling it again changes nothing.

    Returns:
        The names of what was supplied now; empty where nothing was missing.
    """
    supplied = tuple(item.__name__.strip("_") for item in ITEMS if item())
    if supplied:
        logger.debug("supplied for s3prl: %s", ", ".join(supplied))
    return supplied


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep s3prl's prints from standard output, whose last line is a promise.

    Its warnings too, such as of loaders with more workers than processors, which are never run.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Nothing(types.ModuleType):
    """A module whose every name is None."""

    def __getattr__(self, name: str) -> None:
        return None


def import_without(name: str, *absent: str) -> Any:
    """Import a module of s3prl's, with stand-ins for others that it imports and never calls."""
    there = {other: sys.modules[other] for other in absent if other in sys.modules}
    sys.modules |= {other: _Nothing(other) for other in absent}
    try:
        return importlib.import_module(name)
    finally:
        for other in absent:
            del sys.modules[other]
        sys.modules |= there


def _audio_backend() -> bool:
    """Supply setting torchaudio's backend, as s3prl.hub does; torchaudio 2.9 has one only."""
    if hasattr(torchaudio, "set_audio_backend"):
        return False
    torchaudio.set_audio_backend = lambda backend: None  # there is one
    torchaudio.get_audio_backend = lambda: "soundfile"
    return True


def _audio_files() -> bool:
    """Supply reading as everywhere here; torchaudio 2.9 needs TorchCodec, and that FFmpeg."""
    if hasattr(torchaudio, "info") or torchaudio.load is load:
        return False
    torchaudio.load = load
    return True


def _effects() -> bool:
    """Supply torchaudio.sox_effects, gone in 2.9; s3prl.hub, KS, QbE and ASV import it."""
    if importlib.util.find_spec("torchaudio.sox_effects") is not None:
        return False
    sys.modules["torchaudio.sox_effects"] = sox_effects
    torchaudio.sox_effects = sox_effects
    return True


def _namespaces() -> bool:
    """Allow torch.load the argparse.Namespace in s3prl's checkpoints; it holds only data."""
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return False
    torch.serialization.add_safe_globals([argparse.Namespace])
    return True


def _ctc_corpora() -> bool:
    """Supply the corpus readers that s3prl's ctc (PR, SF) imports and its wheel lacks."""
    if CTC_CORPORA in sys.modules or importlib.util.find_spec(CTC_CORPORA) is not None:
        return False
    sys.modules[CTC_CORPORA] = types.ModuleType(CTC_CORPORA)
    readers = {"librispeech": ctc_corpora, "libriphone": libriphone, "snips": snips}
    sys.modules |= {f"{CTC_CORPORA}.{name}": module for name, module in readers.items()}
    return True


ITEMS = (_audio_backend, _audio_files, _effects, _namespaces, _ctc_corpora)


def load(
    uri: str | Path,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
) -> tuple[Tensor, int]:
    """Read a recording, as torchaudio.load; samples are always numbers in [-1, 1].

    Raises:
        AudioError: the file cannot be used.
    """
    samples, rate = read_channels(uri, frame_offset, num_frames)
    return torch.from_numpy(np.ascontiguousarray(samples.T if channels_first else samples)), rate
