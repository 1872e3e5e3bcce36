"""The speech encoder: transformers' HuBERT family, Whisper, w2v-BERT 2.0, upstreams of s3prl."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.utils import logging as transformers_logging

from ..errors import EncoderError, first_line, unknown_name
from ..model.config import ENCODER, VARIANTS, SpeechEncoderConfig
from ..modules.padding import folded_padding_mask, masked_group_norm, padding_mask
from ..structures import HOP, SAMPLE_RATE, WINDOW, SpeechBatch, SpeechFeatures
from .shipped import ASSETS, SHIPPED, shipped_folder

logger = logging.getLogger(__name__)

MASK = "masked_spec_embed"
FAMILIES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
WHISPER = "whisper"
SPECTRAL = (WHISPER, "wav2vec2-bert")
"""Families that read log-mel frames."""
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own variable
S3PRL = "s3prl:"  # what names of s3prl's upstreams begin with
# Keys of a transformers configuration that do not change what the model computes.
PROVENANCE = ("_name_or_path", "architectures", "dtype", "transformers_version")


class SpeechEncoder(nn.Module):
    """Hidden states of a model that begins with wav2vec 2.0's convolutions.

    The states are the input of the first transformer layer and the output of each, before any
    final layer norm, as in fairseq's and s3prl's extraction of HuBERT.

    Args:
        model: a transformers model of one of `FAMILIES`.
        trainable: whether it is trained; otherwise it stays in evaluation mode, without gradient.
        normalize_waveform: whether each recording gets zero mean and unit variance.
        batch_invariant: see `ModelConfig`.

    Raises:
        EncoderError: the model is of another hop.
    """

    can_train = True

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        trainable: bool = False,
        normalize_waveform: bool = False,
        batch_invariant: bool = True,
    ) -> None:
        super().__init__()
        hop = math.prod(model.config.conv_stride)
        if hop != HOP:
            raise EncoderError(f"speech encoders have a hop of {HOP} samples; found {hop}")
        self.model = model
        self.normalize_waveform = normalize_waveform
        self.batch_invariant = batch_invariant
        # A skipped layer would leave out its hidden state, and the layer mix needs one of each.
        model.config.layerdrop = 0.0
        self.trainable = trainable
        self._set_gradients()

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> int:
        """Number of hidden states."""
        return int(self.model.config.num_hidden_layers) + 1

    @property
    def architecture(self) -> dict[str, Any]:
        """Value of `SpeechEncoderConfig.architecture` that builds this model."""
        values = self.model.config.to_diff_dict()
        return {
            "model_type": self.model.config.model_type,
            **{name: value for name, value in values.items() if name not in PROVENANCE},
        }

    def unfreeze(self) -> None:
        """Let the mode decide whether the encoder is trained, where it can be."""
        self.trainable = self.can_train
        self._set_gradients()

    def _set_gradients(self) -> None:
        self.model.requires_grad_(self.trainable)
        if hasattr(self.model, "masked_spec_embed"):
            # Only masked prediction uses it; without a gradient DDP would wait for it.
            self.model.masked_spec_embed.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> SpeechEncoder:
        super().train(mode and self.trainable)
        return self

    def forward(self, speech: SpeechBatch) -> SpeechFeatures:
        """Encode recordings.

        Args:
            speech: 16 kHz recordings; one shorter than a frame is padded to one.

        Returns:
            Hidden states (B, T, D) and valid frames, with the recordings' word times; states on
            padding have no meaning.
        """
        with nullcontext() if self.trainable else torch.no_grad():
            return replace(self._encode(speech), words=speech.words)

    def _encode(self, speech: SpeechBatch) -> SpeechFeatures:
        padded, features, lengths = self.convolve(speech)
        projected = self.model.feature_projection(features.transpose(1, 2))
        states = projected[0] if isinstance(projected, tuple) else projected
        frames = states.shape[1]
        if self.batch_invariant:
            padding = padding_mask(lengths, frames)
        else:
            samples = padded.lengths
            lengths = (samples.double() / HOP).round().long().clamp_max(frames)
            padding = folded_padding_mask(samples, padded.waveforms.shape[1], frames)
        return SpeechFeatures(self._transform(states, padding), lengths)

    def convolve(self, speech: SpeechBatch) -> tuple[SpeechBatch, Tensor, Tensor]:
        """Run the convolutional extractor.

        Returns:
            The recordings that it read, normalised if the encoder's are; features (B, C, T); valid
            frames (B,).
        """
        short = max(0, WINDOW - speech.waveforms.shape[1])
        waveforms = F.pad(speech.waveforms, (0, short))
        samples = speech.lengths.clamp_min(WINDOW)
        if self.normalize_waveform:
            waveforms = _normalize(waveforms, samples)
        states, valid = waveforms.unsqueeze(1), samples
        for layer in self.model.feature_extractor.conv_layers:
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            valid = (valid - kernel) // stride + 1
            norm = getattr(layer, "layer_norm", None)
            if self.batch_invariant and isinstance(norm, nn.GroupNorm):
                states = layer.conv(states)
                states = masked_group_norm(states, valid, norm.weight, norm.bias, norm.eps)
                states = layer.activation(states)
            else:
                states = layer(states)
        return SpeechBatch(waveforms, samples), states, valid

    def _transform(self, states: Tensor, padding: Tensor) -> tuple[Tensor, ...]:
        """Run the transformer and keep the input of its first layer and the output of each."""
        hooks = []
        if self.batch_invariant:
            hooks = [
                layer.register_forward_hook(
                    lambda _, __, out: out.masked_fill(padding.unsqueeze(1), 0.0)
                )
                for layer in _written_on_padding(self.model.encoder.pos_conv_embed)
            ]
        try:
            with recorded(self.model.encoder.layers) as kept:
                # The encoder zeroes padded positions in place.
                self.model.encoder(states.clone(), attention_mask=~padding)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(kept)


class SpectralEncoder(SpeechEncoder):
    """Hidden states of a model that reads log-mel frames, frozen: Whisper's encoder, w2v-BERT 2.0.

    Each recording is encoded alone, Whisper's in windows as long as the model reads, 30 seconds,
    whose states are joined.

    Args:
        model: a transformers model of one of `SPECTRAL`.
    """

    can_train = False

    def __init__(self, model: PreTrainedModel) -> None:
        nn.Module.__init__(self)
        config = model.config
        self.window: int | None = None  # samples
        self.extract: Any
        if config.model_type == WHISPER:
            model = model.get_encoder()
            self.window = config.max_source_positions * HOP
            self.extract = WhisperFeatureExtractor(
                config.num_mel_bins, chunk_length=self.window // SAMPLE_RATE
            )
        else:
            self.extract = SeamlessM4TFeatureExtractor(padding_value=1.0)  # as w2v-BERT 2.0's own
        self.model = model
        self.trainable = self.normalize_waveform = False
        self.batch_invariant = True
        self._set_gradients()

    def _encode(self, speech: SpeechBatch) -> SpeechFeatures:
        rows = zip(speech.waveforms, speech.lengths.tolist(), strict=True)
        return _together([self._encode_one(row[:n]) for row, n in rows])

    def _encode_one(self, waveform: Tensor) -> list[Tensor]:
        parts = waveform.split(self.window or len(waveform))
        windows = [self._encode_window(F.pad(p, (0, max(0, 2 * HOP - len(p))))) for p in parts]
        return [torch.cat(layer, 1) for layer in zip(*windows, strict=True)]

    def _encode_window(self, waveform: Tensor) -> list[Tensor]:
        """Return states (1, T, D) of a window of two frames or more."""
        spectrum = self.extract(
            waveform.float().cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        )["input_features"].to(waveform)
        layers = self.model.layers if self.window else self.model.encoder.layers
        with recorded(layers) as kept:
            self.model(spectrum)
        return [state[:, : len(waveform) // HOP] for state in kept]


class S3prlEncoder(SpeechEncoder):
    """Hidden states of an upstream of s3prl, frozen.

    With `batch_invariant` each recording is encoded alone: what an upstream makes of padding is its
    own affair. An upstream of this project is the model that ships, not the newest run: that may be
    the model which is being built.

    Args:
        name: name on s3prl's hub.
        batch_invariant: see `ModelConfig`.

    Raises:
        EncoderError: there is no such upstream, or its layers differ in width or hop.
    """

    can_train = False

    def __init__(self, name: str, *, batch_invariant: bool) -> None:
        from s3prl.nn import S3PRLUpstream

        nn.Module.__init__(self)
        names = S3PRLUpstream.available_names()
        if name not in names:
            raise EncoderError(unknown_name("upstream of s3prl", name, names))
        try:
            with tensors_only():
                self.model: Any = S3PRLUpstream(name, _own_checkpoint(name))
        except Exception as error:
            # 180 upstreams of other people's, most of which fetch something first.
            raise EncoderError(
                f"s3prl cannot make the upstream '{name}' ({first_line(error)})"
            ) from error
        widths, hops = set(self.model.hidden_sizes), set(self.model.downsample_rates)
        if len(widths) > 1 or hops != {HOP}:
            raise EncoderError(
                f"a speech encoder has one width and a hop of {HOP} samples; s3prl's '{name}' has "
                f"widths {sorted(widths)} and hops {sorted(hops)}"
            )
        self.trainable = self.normalize_waveform = False
        self.batch_invariant = batch_invariant
        self._set_gradients()

    @property
    def width(self) -> int:
        return int(self.model.hidden_sizes[0])

    @property
    def layers(self) -> int:
        return int(self.model.num_layers)

    @property
    def architecture(self) -> dict[str, Any]:
        return {}  # the name says it

    def _encode(self, speech: SpeechBatch) -> SpeechFeatures:
        rows = zip(speech.waveforms, speech.lengths.tolist(), strict=True)
        recordings = [F.pad(row[:n], (0, max(0, WINDOW - n))) for row, n in rows]
        if not self.batch_invariant:
            states = tuple(self.model.upstream(recordings)["hidden_states"])
            lengths = (speech.lengths - 1) // HOP + 1  # as s3prl counts
            return SpeechFeatures(states, lengths.clamp_max(states[0].shape[1]))
        return _together([self.model.upstream([one])["hidden_states"] for one in recordings])


def _own_checkpoint(name: str) -> str | None:
    """Return the shipped checkpoint of an upstream of this project; None for s3prl's."""
    if name == ENCODER:
        return str(ASSETS / "speechclip_hybrid")
    return str(ASSETS / name) if name in VARIANTS else None


def _together(alone: Sequence[Sequence[Tensor]]) -> SpeechFeatures:
    """Pad the hidden states of single recordings, (1, T, D) by layer, to a batch."""
    frames = [states[0].shape[1] for states in alone]
    padded = (
        nn.utils.rnn.pad_sequence([state[0] for state in layer], batch_first=True)
        for layer in zip(*alone, strict=True)
    )
    return SpeechFeatures(tuple(padded), torch.tensor(frames, device=alone[0][0].device))


@contextmanager
def recorded(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the input of the first layer and the output of each, of what runs in a block."""
    kept: list[Tensor] = []
    hooks = [
        layers[0].register_forward_pre_hook(
            lambda _, args, kwargs: kept.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    ]
    hooks += [
        layer.register_forward_hook(
            lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in layers
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def tensors_only() -> Iterator[None]:
    """Refuse pickled code in a block, also where s3prl calls torch.load(weights_only=False)."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        del os.environ[WEIGHTS_ONLY]
        if before is not None:
            os.environ[WEIGHTS_ONLY] = before


def build_speech_encoder(
    config: SpeechEncoderConfig, *, batch_invariant: bool, weights: bool = True
) -> SpeechEncoder:
    """Build the encoder that a configuration describes.

    Args:
        config: model, weights, normalisation.
        batch_invariant: see `ModelConfig`.
        weights: whether to load pretrained weights; False where a checkpoint will fill them.

    Raises:
        EncoderError: the model is not available, incomplete, or of another family.
    """
    if config.name.startswith(S3PRL):
        _require_frozen(config)
        name = config.name.removeprefix(S3PRL)
        return S3prlEncoder(name, batch_invariant=batch_invariant)
    if config.pretrained and weights:
        model = _load_pretrained(config.name)
    else:
        try:
            model = AutoModel.from_config(_architecture(config))
        except (ValueError, TypeError, RuntimeError) as error:
            raise EncoderError(
                f"model.speech_encoder.architecture cannot be built: {first_line(error)}"
            ) from error
    _check_family(model.config.model_type)
    if model.config.model_type in SPECTRAL:
        _require_frozen(config)
        return SpectralEncoder(model)
    return SpeechEncoder(
        model,
        trainable=config.trainable,
        normalize_waveform=config.normalize_waveform,
        batch_invariant=batch_invariant,
    )


def _require_frozen(config: SpeechEncoderConfig) -> None:
    if config.trainable:
        raise EncoderError(
            f"'{config.name}' cannot be trained: set model.speech_encoder.trainable=false"
        )


def _written_on_padding(positions: nn.Module) -> list[nn.Module]:
    """Return the parts of a positional embedding whose output on padding is read again.

    data2vec stacks its convolutions, and HuBERT's optional batch norm shifts the padding's zeros
    before the convolution.
    """
    parts = [*getattr(positions, "layers", ()), getattr(positions, "batch_norm", None)]
    return [part for part in parts if part is not None]


def _load_pretrained(name: str) -> PreTrainedModel:
    folder = str(shipped_folder("hubert")) if name == SHIPPED else name
    model, missing, unexpected = _from_pretrained(folder, name)
    prefix = _uniform_prefix(unexpected)
    if missing and prefix:
        model, missing, unexpected = _from_pretrained(folder, name, {f"^{re.escape(prefix)}": ""})
    if missing:
        raise EncoderError(
            f"the speech encoder '{name}' is incomplete: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}), which would be "
            "random; give a complete folder with --hubert PATH"
        )
    return model


def _from_pretrained(
    folder: str, name: str, renames: dict[str, str] | None = None
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """Load a model; returns it with the names of missing and of unknown weights."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what is missing is reported below, in one line
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # of weights that are read in an instant
    try:
        # Whatever the file holds: half precision is for storage.
        model, info = AutoModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, key_mapping=renames
        )
    except (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError) as error:
        raise EncoderError(
            f"the speech encoder '{name}' is not available ({first_line(error)}): give the folder "
            "that holds its config.json and model.safetensors or pytorch_model.bin with "
            "--hubert PATH, or go online once"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
    missing = set(info["missing_keys"])
    if MASK in missing:
        # Only masked prediction uses it, and fine-tuned files may lack it. What transformers draws
        # in its place would give the encoder another hash at every load.
        nn.init.zeros_(model.get_parameter(MASK))
    return model, sorted(missing - {MASK}), sorted(info["unexpected_keys"])


def _uniform_prefix(names: Sequence[str]) -> str:
    """Return the common first part of names, such as DDP's `module.`; empty without one."""
    first = {name.partition(".")[0] for name in names}
    return f"{first.pop()}." if len(first) == 1 else ""


def _architecture(config: SpeechEncoderConfig) -> Any:
    values = dict(config.architecture)
    if not values:
        try:
            name = config.name
            return AutoConfig.from_pretrained(shipped_folder("hubert") if name == SHIPPED else name)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"the architecture of '{config.name}' is not known offline: set "
                "model.speech_encoder.architecture, or give a folder with its config.json"
            ) from error
    family = values.pop("model_type", "hubert")
    _check_family(family)
    return AutoConfig.for_model(family, **values)


def _check_family(family: str) -> None:
    known = (*FAMILIES, *SPECTRAL)
    if family not in known:
        raise EncoderError(f"speech encoders are {', '.join(known)}; found '{family}'")


def _normalize(waveforms: Tensor, samples: Tensor) -> Tensor:
    """Zero mean and unit variance over each recording's own samples."""
    valid = ~padding_mask(samples, waveforms.shape[1])
    count = samples.unsqueeze(1).to(waveforms.dtype)
    mean = (waveforms * valid).sum(1, keepdim=True) / count
    centred = (waveforms - mean) * valid
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-5)
