"""What an upstream makes of recordings: chosen, checked, and kept where it never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError, unknown_name
from ..structures import SAMPLE_RATE

FRAMES = 3  # axes of frames: (B, T, D)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def check_selection(
    upstream: nn.Module, selection: str, layer: int | None, device: torch.device
) -> int:
    """Check `-s` and `-l` against what an upstream gives, and count the chosen states.

    Raises:
        ConfigError: the upstream gives no such thing, no such layer, or no frames under that name.
    """
    with torch.no_grad():
        features = upstream([torch.zeros(SAMPLE_RATE, device=device)])
    if selection not in features:
        raise ConfigError(f"-s: {unknown_name('feature', selection, map(str, features))}")
    states = as_states(features[selection])
    if not states or any(not isinstance(s, Tensor) or s.dim() != FRAMES for s in states):
        raise ConfigError(
            f"-s {selection} gives no frames (recordings x frames x width), which the downstream "
            "tasks need; take hidden_states or last_hidden_state"
        )
    count = len(states)
    if layer is not None and not -count <= layer < count:
        raise ConfigError(f"-l is from {-count} to {count - 1} with -s {selection}, found {layer}")
    if layer is None and len({state.shape[-1] for state in states}) > 1:
        raise ConfigError(f"-s {selection} gives states of several widths; choose one with -l")
    return count


def as_states(feature: Any) -> list[Tensor]:
    """List the states of an upstream's entry, which s3prl allows to be one, several or named."""
    if isinstance(feature, Mapping):
        return list(feature.values())
    return list(feature) if isinstance(feature, (list, tuple)) else [feature]


class FeatureCache:
    """A frozen upstream whose features are computed once a recording and kept in memory.

    Each recording is encoded alone, so that what is kept does not hang on the batch that it first
    came in. Recordings are known by their samples: a random crop is a recording of its own.

    Args:
        upstream: frozen, in evaluation mode.
        selection: entry of its output to keep.
        layer: the only state to keep; None: all.
        rate: samples to a frame.
        dtype: to keep them in.
        budget: bytes; what goes beyond is computed every time.
    """

    def __init__(
        self,
        upstream: nn.Module,
        selection: str,
        layer: int | None,
        rate: int,
        dtype: torch.dtype,
        budget: int,
    ) -> None:
        self._upstream = upstream
        self._selection = selection
        self._layer = layer
        self._rate = rate
        self._dtype = dtype
        self._room = budget
        self._kept: dict[bytes, Tensor] = {}
        self._count = 0

    @torch.no_grad()
    def __call__(self, wavs: Sequence[np.ndarray], device: torch.device) -> dict[str, Any]:
        """Give what the upstream gives of a batch, padded with zeros.

        Args:
            wavs: 1-D float32, 16 kHz.
            device: of the upstream and of what is given.

        Returns:
            The selected entry alone: states of (B, T, D).
        """
        each = [self._of(wav, device) for wav in wavs]
        longest = max(states.shape[1] for states in each)
        shape = (each[0].shape[0], len(each), longest, each[0].shape[2])
        batch = torch.zeros(shape, dtype=torch.float32, device=device)
        for row, states in enumerate(each):
            batch[:, row, : states.shape[1]] = states.to(device)
        if self._layer is None:
            return {self._selection: list(batch)}
        return {self._selection: [batch[0]] * self._count}

    def _of(self, wav: np.ndarray, device: torch.device) -> Tensor:
        """Give a recording's states, (S, T, D)."""
        key = hashlib.blake2b(np.ascontiguousarray(wav).tobytes(), digest_size=16).digest()
        if key in self._kept:
            return self._kept[key]
        feature = self._upstream([torch.from_numpy(wav).to(device)])[self._selection]
        states = as_states(feature)
        self._count = len(states)
        if self._layer is not None:
            states = [states[self._layer]]
        frames = max(1, round(len(wav) / self._rate))
        # Rounded where it is kept and where it is not: the budget must not change what is learned.
        found = torch.stack([state[0, :frames] for state in states]).to(self._dtype).cpu()
        size = found.numel() * found.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[key] = found
        return found
