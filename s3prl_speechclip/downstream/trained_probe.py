"""A trained probe: recordings to labels, slots, phones or text, without the corpus."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.audio import read_audio
from ..errors import CheckpointError, ConfigError
from ..modules.padding import pad_waveforms
from ..runtime.devices import find_device
from ..structures import SAMPLE_RATE
from . import compat
from .heads import Head, Labels, Prediction
from .plan import Plan, read_own, resolve
from .probe import build_featurizer
from .request import Request
from .run_state import Weights
from .sox_effects import apply_effects_tensor
from .task import EXPERT
from .upstreams import load_upstream

MODULES = ("s3prl.downstream.model", "s3prl.downstream.asr.model")
"""Modules that s3prl's experts take their heads from."""


def load_probe(experiment: str | Path, *, device: str = "auto") -> TrainedProbe:
    """Load the probe of a downstream experiment, with its upstream; the corpus is not needed.

    Args:
        experiment: folder of `run_downstream.py`, whose best checkpoint is taken, or a checkpoint.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        CheckpointError: there is no checkpoint, its upstream is gone or another one, or it lacks
            the names of its labels.
        ConfigError: the task has no head that is trained, or none that can be read here.
    """
    compat.apply()
    plan = resolve(Request(past=Path(experiment), evaluate=True))
    head, past = plan.task.head, plan.past
    if head is None:
        raise ConfigError(f"{plan.task.name} predicts nothing for a recording alone")
    assert past is not None, "resolve finds the checkpoint"
    request = plan.request
    upstream = load_upstream(
        str(request.upstream), request.checkpoint, request.upstream_config, find_device(device)
    )
    plan = replace(plan, weights=Weights(upstream.weights, upstream.digest))
    state = read_own(plan, past)
    if not state.labels:
        raise CheckpointError(
            f"'{past}' was written before checkpoints kept the names of labels; train it again"
        )
    return TrainedProbe(plan, upstream.module, head, state.labels, state.parts)


class TrainedProbe:
    """Predicts a task's labels of recordings.

    `load_probe` makes one.

    Args:
        plan: the experiment.
        upstream: its upstream, in evaluation mode, on its device.
        head: the task's.
        labels: names of the head's outputs.
        parts: weights, by the names of s3prl's checkpoints.
    """

    def __init__(
        self,
        plan: Plan,
        upstream: nn.Module,
        head: Head,
        labels: Labels,
        parts: Mapping[str, Any],
    ) -> None:
        self.task = plan.task
        self.labels = labels
        self._head, self._upstream = head, upstream
        self._device = next(upstream.parameters(), torch.empty(0)).device
        self._featurizer = build_featurizer(plan, upstream, self._device)
        settings = plan.config[EXPERT]
        settings = settings.get("modelrc") or settings["model"]
        outputs = sum(map(len, labels.values()))
        self._layers = _layers(settings, self._featurizer, outputs).to(self._device).eval()
        own = {k: v for k, v in parts["Downstream"].items() if k.split(".")[0] in self._layers}
        try:
            self._layers.load_state_dict(own)
            self._featurizer.load_state_dict(parts["Featurizer"])
            if "Upstream" in parts:  # fine-tuned
                upstream.load_state_dict(parts["Upstream"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"'{plan.past}' does not fit its upstream: {reason}") from error

    @torch.no_grad()
    def __call__(self, recording: str | Path | Tensor | np.ndarray) -> Prediction:
        """Predict a recording: a file, or (L,) float samples at 16 kHz.

        Raises:
            AudioError: the file cannot be read, or the samples are not 1-D, floating-point and
                non-empty.
        """
        sound = read_audio(recording) if isinstance(recording, (str, Path)) else recording
        samples = pad_waveforms([sound]).waveforms[0]
        if effects := self._head.effects:
            samples = apply_effects_tensor(samples[None], SAMPLE_RATE, effects)[0][0]
        wavs = [samples.to(self._device)]
        frames = self._featurizer(wavs, self._upstream(wavs))
        lengths = torch.tensor([len(frames[0])])
        projected = self._layers["projector"](frames[0][None])
        logits, _ = self._layers["model"](projected, lengths)
        return self._head.decode(logits.reshape(-1, logits.shape[-1]).cpu(), self.labels)


def _layers(settings: Mapping[str, Any], featurizer: Any, outputs: int) -> nn.ModuleDict:
    """Build the layers of s3prl's expert after the featurizer, as it builds them."""
    known: dict[str, Any] = {}
    for name in MODULES:
        known |= vars(importlib.import_module(name))
    width = settings.get("projector_dim") or settings["project_dim"]
    chosen = settings["select"]
    model = known[chosen](
        width, outputs, upstream_rate=featurizer.downsample_rate, **(settings.get(chosen) or {})
    )
    return nn.ModuleDict({"projector": nn.Linear(featurizer.output_dim, width), "model": model})
