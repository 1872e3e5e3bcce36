"""Names that s3prl 0.4.18 uses and today's packages no longer have.

`apply()` supplies it, each thing only where it is missing, so that it does nothing beside a
torchaudio, a huggingface_hub or an s3prl that has it. s3prl's files are left as they are, and its
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
from typing import Any, NamedTuple, NoReturn

import huggingface_hub
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from ..data.audio import UNREADABLE, audio_info, read_channels
from ..errors import AudioError, SpeechClipError
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


def _audio_backend() -> bool:
    """Supply setting torchaudio's backend, as s3prl.hub does; torchaudio 2.9 has one only."""
    if hasattr(torchaudio, "set_audio_backend"):
        return False
    torchaudio.set_audio_backend = lambda backend: None  # there is one
    torchaudio.get_audio_backend = lambda: "soundfile"
    return True


def _audio_files() -> bool:
    """Supply `info`, and reading and writing without TorchCodec, which torchaudio 2.9 needs."""
    if hasattr(torchaudio, "info"):
        return False
    torchaudio.info = info
    if not _torchcodec_works():
        torchaudio.load = load
        torchaudio.save = save
    return True


def _effects() -> bool:
    """Supply torchaudio.sox_effects, gone in 2.9; s3prl.hub, KS, QbE and ASV import it."""
    if importlib.util.find_spec("torchaudio.sox_effects") is not None:
        return False
    sys.modules["torchaudio.sox_effects"] = sox_effects
    torchaudio.sox_effects = sox_effects
    return True


def _hub_classes() -> bool:
    """Supply HfFolder and Repository, gone in huggingface_hub 1.0; s3prl's runner imports both."""
    parts = {
        "HfFolder": types.SimpleNamespace(get_token=huggingface_hub.get_token),
        "Repository": _no_repository,
    }
    missing = [name for name in parts if not hasattr(huggingface_hub, name)]
    for name in missing:
        setattr(huggingface_hub, name, parts[name])
    return bool(missing)


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


ITEMS = (_audio_backend, _audio_files, _effects, _hub_classes, _namespaces, _ctc_corpora)


class AudioMetaData(NamedTuple):
    """The header of a recording, as `torchaudio.info` returned it."""

    sample_rate: int
    num_frames: int
    num_channels: int
    bits_per_sample: int  # 0 where the format has no such number
    encoding: str


def info(path: str | Path) -> AudioMetaData:
    """Read a recording's header, as torchaudio.info.

    Raises:
        AudioError: the file is missing or its header cannot be read.
    """
    audio_info(path)
    header = soundfile.info(str(path))
    digits = header.subtype.rpartition("_")[2]
    bits = 32 if header.subtype == "FLOAT" else int(digits) if digits.isdigit() else 0
    return AudioMetaData(header.samplerate, header.frames, header.channels, bits, header.subtype)


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


def save(uri: str | Path, src: Tensor, sample_rate: int, channels_first: bool = True) -> None:
    """Write a recording, as torchaudio.save; WAV keeps its 32-bit floats.

    Raises:
        AudioError: the file cannot be written.
    """
    samples = src.detach().cpu().numpy()
    if samples.ndim == 2 and channels_first:
        samples = samples.T
    subtype = "FLOAT" if Path(uri).suffix.lower() == ".wav" else None
    try:
        soundfile.write(str(uri), samples, sample_rate, subtype=subtype)
    except UNREADABLE as error:
        raise AudioError(f"cannot write the recording '{uri}': {error}") from error


def _torchcodec_works() -> bool:
    try:
        importlib.import_module("torchcodec")
    except (ImportError, RuntimeError, OSError):  # also where FFmpeg's libraries are missing
        return False
    return True


def _no_repository(*args: Any, **kwargs: Any) -> NoReturn:
    """Refuse huggingface_hub's clone of a repository, which only s3prl's own upload makes."""
    raise SpeechClipError(
        "s3prl's own upload to the Hub needs huggingface_hub below 1.0; upload the experiment "
        "folder with 'hf upload' instead"
    )
