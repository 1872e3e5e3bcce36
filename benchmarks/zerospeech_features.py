"""Frame features of the recordings of ZeroSpeech 2021's semantic set, by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.transforms import MelSpectrogram
from tqdm import tqdm

from s3prl_speechclip.data.audio import audio_info, read_audio
from s3prl_speechclip.structures import SAMPLE_RATE
from s3prl_speechclip.upstream.speechclip.expert import UpstreamExpert

from .zerospeech_scores import Key, Vector, pool

LOG_MEL = "log_mel"
"""Name of the spectral baseline."""
BANDS = 80
WINDOW, STEP = 400, 160  # samples, 25 ms and 10 ms at 16 kHz
FLOOR = 1e-6  # of the power that the logarithm is taken of; -60 dB of a full-scale sine's

Layers = tuple[Tensor, ...]
"""(T, D) each, on the CPU."""


@dataclass(frozen=True)
class FeatureSource:
    """What turns recordings into features."""

    system: str
    size: str
    checkpoint: str
    checkpoint_hash: str
    encode: Callable[[Sequence[Tensor]], list[Layers]]
    """Layers of each recording, (L,) float32 at 16 kHz."""


def spectral_source() -> FeatureSource:
    """Give logarithmic mel spectra: one layer of 80 bands every 10 ms, as they are."""
    mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=STEP, n_mels=BANDS)

    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        return [((mel(waveform) + FLOOR).log().T,) for waveform in _at_least(waveforms, WINDOW)]

    return FeatureSource(LOG_MEL, "", "", "", encode)


def model_source(expert: UpstreamExpert, device: torch.device) -> FeatureSource:
    """Give all hidden states of a model, or of its speech encoder alone.

    Args:
        expert: the model as an upstream.
        device: where it runs.
    """
    expert = expert.to(device)

    @torch.no_grad()
    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        given = expert([waveform.to(device) for waveform in waveforms])
        states = [state.float().cpu() for state in given["hidden_states"]]
        return [
            tuple(state[row, :length] for state in states)
            for row, length in enumerate(given["lengths"].tolist())
        ]

    return FeatureSource(
        expert.name, expert.size, expert.located.source, expert.located.digest(), encode
    )


def frames(
    source: FeatureSource,
    recordings: Mapping[Key, Path],
    batch_size: int,
    show_progress: bool = True,
) -> Iterator[tuple[Key, Layers]]:
    """Encode recordings, long ones with long ones; not in their order.

    Raises:
        AudioError: a recording cannot be read.
    """
    seconds = {key: audio_info(path).duration for key, path in recordings.items()}
    order = sorted(recordings, key=lambda key: (seconds[key], key))
    with tqdm(
        total=len(order), desc=source.system, unit="recording", disable=not show_progress or None
    ) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            waveforms = [torch.from_numpy(read_audio(recordings[key])) for key in batch]
            yield from zip(batch, source.encode(waveforms), strict=True)
            bar.update(len(batch))


def pooled(
    source: FeatureSource,
    recordings: Mapping[Key, Path],
    poolings: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    show_progress: bool = True,
) -> Mapping[tuple[int, str], Vector]:
    """Encode recordings and pool their frames.

    Args:
        source: of the features.
        recordings: N of them.
        poolings: wanted.
        layers: wanted, all by default.
        batch_size: recordings encoded at once.
        show_progress: a bar on standard error.

    Returns:
        By layer and pooling, (N, D) in the order of `recordings`.

    Raises:
        AudioError: a recording cannot be read.
        ResultError: a feature that is no number.
    """
    row = {key: number for number, key in enumerate(recordings)}
    found: dict[tuple[int, str], NDArray[np.float32]] = {}
    for key, states in frames(source, recordings, batch_size, show_progress):
        for layer in layers if layers is not None else range(len(states)):
            for pooling in poolings:
                vector = pool(states[layer], pooling, "/".join(key))
                table = found.setdefault(
                    (layer, pooling), np.empty((len(row), len(vector)), np.float32)
                )
                table[row[key]] = vector
    return MappingProxyType({name: table.astype(np.float64) for name, table in found.items()})


def _at_least(waveforms: Sequence[Tensor], samples: int) -> list[Tensor]:
    return [torch.nn.functional.pad(w, (0, max(0, samples - len(w)))) for w in waveforms]
