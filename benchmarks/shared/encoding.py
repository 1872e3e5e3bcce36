"""Systems that encode recordings into layers of frames, for the benchmarks of ZeroSpeech 2021."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from s3prl_speechclip.data.corpora.zerospeech import ZeroSpeech
from s3prl_speechclip.errors import ConfigError, unknown_name
from s3prl_speechclip.model.config import ENCODER, VARIANTS
from s3prl_speechclip.options import add_option
from s3prl_speechclip.results import result_record
from s3prl_speechclip.structures import HOP, SAMPLE_RATE, TaskResult

from ..formulas.semantic_scores import Key
from .benchmark import add_model_options, find_model, load_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    Layers = tuple[Tensor, ...]
    """(T, D) each, on the CPU."""

LOG_MEL = "log_mel"
"""Name of the spectral baseline."""
BANDS = 80
WINDOW, STEP = 400, 160  # samples, 25 ms and 10 ms at 16 kHz
FLOOR = 1e-6  # of the power that the logarithm is taken of; -60 dB of a full-scale sine's
PROTOCOL = {
    "layers": "0: input of the transformer; then the output of each layer, then the branch's own",
    "precision": "fp32",
}


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """A system that turns recordings into features."""

    system: str
    size: str = ""
    checkpoint: str = ""
    checkpoint_hash: str = ""
    rate: float = SAMPLE_RATE / HOP
    """Frames a second."""
    encode: Callable[[Sequence[Tensor]], list[Layers]]
    """Layers of each recording, (L,) float32 at 16 kHz."""

    def record(
        self,
        task: str,
        data: ZeroSpeech,
        started: float,
        metrics: Mapping[str, Any],
        protocol: Mapping[str, Any],
    ) -> TaskResult:
        """Return the record of a measurement that began at `started`, of `time.perf_counter()`."""
        return result_record(
            started=started,
            task=task,
            system=self.system,
            size=self.size,
            corpus=data.corpus,
            checkpoint=self.checkpoint,
            checkpoint_hash=self.checkpoint_hash,
            metrics=metrics,
            protocol={**protocol, **PROTOCOL, "notes": list(data.notes)},
            seed=0,
            mini=data.mini or self.size == "mini",
        )


def add_source_options(p: ArgumentParser, part: str) -> None:
    """Add the options that name a system, and the folder of a part of ZeroSpeech 2021."""
    add_model_options(p, f"; {ENCODER}: the speech encoder alone; {LOG_MEL}: the spectral baseline")
    add_option(
        p,
        "--data-root DIR",
        f"folder that holds ZeroSpeech 2021's {part}/ (default: a mini set, built at its "
        "first use)",
    )
    add_option(p, "--archive FILE", "Debian packages (.deb) of the mini set")


def check_source(args: Namespace) -> None:
    """Check the system that the options name, without reading it.

    Raises:
        ConfigError, CheckpointError: there is none.
    """
    name = args.upstream
    if name == LOG_MEL:
        if args.upstream_ckpt:
            raise ConfigError(f"{LOG_MEL} has no checkpoint; leave -k out")
    elif name is not None and name not in (*VARIANTS, ENCODER):
        raise ConfigError(unknown_name("upstream", name, (*VARIANTS, ENCODER, LOG_MEL)))
    else:
        known = next(iter(VARIANTS)) if name == ENCODER else name
        find_model(Namespace(upstream=known, upstream_ckpt=args.upstream_ckpt))


def find_source(args: Namespace) -> FeatureSource:
    """Return the system that the options name; see `check_source`."""
    name, given = args.upstream, args.upstream_ckpt
    if name == LOG_MEL:
        return spectral_source()
    if name == ENCODER:
        from s3prl_speechclip.runtime.devices import find_device
        from s3prl_speechclip.upstream.speechclip.expert import UpstreamExpert

        expert = UpstreamExpert(given, name=name)
        located, model = expert.located, expert.model.to(find_device(args.device))
        return _source(name, expert.size, located.source, located.digest(), model)
    model, checkpoint, digest = load_model(args)
    return _source(model.config.variant, model.config.size, checkpoint, digest, model)


def spectral_source() -> FeatureSource:
    """Return logarithmic mel spectra: one layer of 80 bands every 10 ms."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=STEP, n_mels=BANDS)

    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        padded = [torch.nn.functional.pad(w, (0, max(0, WINDOW - len(w)))) for w in waveforms]
        return [((mel(waveform) + FLOOR).log().T,) for waveform in padded]

    return FeatureSource(system=LOG_MEL, rate=SAMPLE_RATE / STEP, encode=encode)


def _source(
    system: str, size: str, checkpoint: str, digest: str, model: nn.Module
) -> FeatureSource:
    """Return all hidden states of a model."""
    import torch

    from s3prl_speechclip.modules.padding import pad_waveforms

    device = next(model.parameters()).device

    @torch.no_grad()
    def encode(waveforms: Sequence[Tensor]) -> list[Layers]:
        output = model(pad_waveforms(waveforms).to(device))
        states = [state.float().cpu() for state in output.hidden_states]
        return [
            tuple(state[row, :length] for state in states)
            for row, length in enumerate(output.lengths.tolist())
        ]

    return FeatureSource(
        system=system, size=size, checkpoint=checkpoint, checkpoint_hash=digest, encode=encode
    )


def frames(
    source: FeatureSource, recordings: Mapping[Key, Path], batch_size: int
) -> Iterator[tuple[Key, Layers]]:
    """Encode recordings in batches of similar length, not in their order."""
    import torch

    from s3prl_speechclip.data.audio import audio_info, read_audio

    seconds = {key: audio_info(path).duration for key, path in recordings.items()}
    order = sorted(recordings, key=lambda key: (seconds[key], key))
    with tqdm(total=len(order), desc=source.system, unit="recording", disable=None) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            waveforms = [torch.from_numpy(read_audio(recordings[key])) for key in batch]
            yield from zip(batch, source.encode(waveforms), strict=True)
            bar.update(len(batch))
