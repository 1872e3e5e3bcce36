"""The models of the family, and their speech encoder alone, as s3prl's upstreams."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s3prl_speechclip import checkpoints
from s3prl_speechclip.checkpoints.locate import Located, locate_model
from s3prl_speechclip.config import build, read_yaml
from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.model.config import ENCODER, VARIANTS, with_segmenter
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.padding import pad_waveforms
from s3prl_speechclip.structures import HOP, SpeechOutput

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig:
    """Settings that a file of s3prl's `-g` may hold."""

    batch_invariant: bool | None = None
    """True: an utterance's features do not depend on what else is in the batch; False: they do, as
    fairseq's, which the released weights were trained with; None: as the checkpoint says."""
    speech_encoder: str | None = None
    """Folder of the speech encoder, for a checkpoint that only names it."""
    clip: str | None = None
    """File of CLIP's weights, for a checkpoint that only names them."""
    segmenter: str | None = None
    """Segmenter of a `speechclip_words` in place of the checkpoint's; s3prl's recordings have no
    word times, so that `times` means minimum cut."""


class UpstreamExpert(nn.Module):
    """Frame features of recordings, with embeddings and keywords beside them.

    In evaluation mode, as it is made, it is frozen and computes without gradient. In training mode
    (s3prl's `-f`) dropout is on, and the gradient reaches every layer of the speech encoder, unless
    that is of a kind that is always frozen.

    Args:
        ckpt: value of `-k`; None: what `locate_model` finds, and the log says which.
        model_config: a YAML file or a mapping with the keys of `UpstreamConfig`, or None.
        name: hub name of the model; `speechclip_encoder`: the speech encoder alone.
        refresh: fetch a checkpoint of the Hub again.
        batch_invariant: setting in place of `model_config`'s.

    Raises:
        CheckpointError: there is no such checkpoint, or it is of another model.
        ConfigError: a key or a value that `UpstreamConfig` does not have.
    """

    def __init__(
        self,
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        *,
        name: str = "speechclip_hybrid",
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> None:
        super().__init__()
        config = _read_config(model_config)
        if batch_invariant is not None:
            config = replace(config, batch_invariant=batch_invariant)
        located = _locate(name, ckpt)
        if ckpt is None:
            # The user did not choose it, and features of another model look alike.
            logger.warning("%s: '%s', %s", name, located.source, located.reason)
        model = _load(located.source, config, refresh=refresh)
        if name not in (ENCODER, model.config.variant):
            raise CheckpointError(
                f"'{located.source}' holds a {model.config.variant}, expected a {name}; use "
                f"'-u {model.config.variant}', or give another checkpoint with -k"
            )
        self.name = name
        self.located = located
        self.size = model.config.size
        self.batch_invariant = model.config.batch_invariant
        self.model: nn.Module = model.speech_encoder if name == ENCODER else model
        self.eval()

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples per frame, the same for all hidden states."""
        return HOP

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Compute features of recordings.

        Args:
            wavs: 1-D float tensors, 16 kHz; one shorter than a frame is padded.

        Returns:
            `hidden_states`: (B, T, D) each: the speech encoder's, then the branch's own without
            its CLS tokens; also one by one as `hidden_state_0` and so on, and the last as
            `last_hidden_state`. Where features are batch-invariant, T is the longest recording's
            samples / 320 rounded up, and frames beyond an utterance's own repeat its last; else T
            is what the convolutions give. `lengths`: (B,) frames of each utterance's own. What the
            model has of `parallel` and `cascaded`, (B, E) unit vectors, and `keywords`.

        Raises:
            AudioError: no recording, or one that is not a 1-D float tensor with samples in it.
        """
        speech = pad_waveforms(wavs)
        device = next(self.parameters()).device
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            output = self.model(speech.to(device))
            states = list(output.hidden_states)
            if self.batch_invariant:
                frames = -(-speech.waveforms.shape[1] // HOP)
                states = [_hold_last(state, output.lengths, frames) for state in states]
        result: dict[str, Any] = {
            "hidden_states": states,
            "last_hidden_state": states[-1],
            **{f"hidden_state_{number}": state for number, state in enumerate(states)},
            "lengths": output.lengths,
        }
        if isinstance(output, SpeechOutput):
            result.update(output.embeddings)
            if output.keywords is not None:
                result["keywords"] = output.keywords
        return result


def _hold_last(states: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """Repeat each utterance's last frame: (B, T, D) and (B,) valid frames to (B, frames, D).

    s3prl counts samples / 320, rounded or rounded up, which is a frame or two more than the
    convolutions give. In a batch those frames would come from padding.
    """
    wanted = torch.arange(frames, device=states.device).unsqueeze(0)
    rows = torch.arange(len(states), device=states.device).unsqueeze(1)
    return states[rows, wanted.minimum(lengths.unsqueeze(1) - 1)]


def _read_config(given: str | Path | Mapping[str, Any] | None) -> UpstreamConfig:
    if given is None:
        return UpstreamConfig()
    if isinstance(given, Mapping):
        return build(UpstreamConfig, given, "model_config")
    return build(UpstreamConfig, read_yaml(given), str(given))


def _locate(name: str, ckpt: str | Path | None) -> Located:
    given = None if ckpt is None else str(ckpt)
    if name != ENCODER:
        return locate_model(name, given)
    if given is not None:
        return locate_model("speechclip_hybrid", given)
    first = next(iter(VARIANTS))
    found = locate_model(first)
    return replace(found, reason=f"the encoder of {first}: {found.reason}")


def _load(source: str, config: UpstreamConfig, *, refresh: bool) -> SpeechClip:
    stored = checkpoints.read(source, force_download=refresh)
    encoder, clip = stored.config.speech_encoder, stored.config.clip
    if config.speech_encoder is not None:
        encoder = replace(encoder, name=config.speech_encoder)
    if config.clip is not None:
        clip = replace(clip, pretrained=config.clip)
    changed = replace(stored.config, speech_encoder=encoder, clip=clip)
    if config.batch_invariant is not None:
        changed = replace(changed, batch_invariant=config.batch_invariant)
    if config.segmenter is not None:
        changed = with_segmenter(changed, config.segmenter)
    model = SpeechClip.from_stored(replace(stored, config=changed))
    model.speech_encoder.unfreeze()
    return model
