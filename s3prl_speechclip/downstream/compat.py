"""Names that s3prl 0.4.18 uses and today's packages no longer have.

`apply()` supplies them. s3prl's files are left as they are, and its `main()` is never called: it
replaces `builtins.isinstance`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
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

CTC_CORPORA = "s3prl.downstream.ctc.corpus"


def apply() -> None:
    """Make s3prl importable and its data sets readable; calling it again changes nothing."""
    torchaudio.set_audio_backend = lambda backend: None  # there is one
    torchaudio.get_audio_backend = lambda: "soundfile"
    torchaudio.load = load  # torchaudio's own needs TorchCodec, and that FFmpeg
    # Gone in torchaudio 2.9; s3prl.hub, KS, QbE and ASV import it.
    sys.modules["torchaudio.sox_effects"] = torchaudio.sox_effects = sox_effects
    # Of s3prl's checkpoints, only data; what reads a run's checkpoint takes it away again.
    torch.serialization.add_safe_globals([argparse.Namespace])
    # PR and SF import them, and s3prl's wheel lacks them.
    if CTC_CORPORA not in sys.modules and importlib.util.find_spec(CTC_CORPORA) is None:
        sys.modules[CTC_CORPORA] = types.ModuleType(CTC_CORPORA)
        readers = {"librispeech": ctc_corpora, "libriphone": libriphone, "snips": snips}
        sys.modules |= {f"{CTC_CORPORA}.{name}": module for name, module in readers.items()}


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
