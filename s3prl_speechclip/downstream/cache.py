"""A frozen upstream's features, kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .upstreams import as_states

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class FeatureCache:
    """A frozen upstream whose features are computed once a recording and kept in memory.

    Each recording is encoded alone, so that what is kept does not depend on the batch that it first
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
        """Return the upstream's features of a batch, padded with zeros.

        Args:
            wavs: 1-D float32, 16 kHz.
            device: of the upstream and of the result.

        Returns:
            The selected entry alone: states of (B, T, D).
        """
        each = [self._of(wav, device) for wav in wavs]
        states = [
            pad_sequence([own.to(device, torch.float32) for own in layer], batch_first=True)
            for layer in zip(*each, strict=True)
        ]
        return {self._selection: states if self._layer is None else states * self._count}

    def _of(self, wav: np.ndarray, device: torch.device) -> Tensor:
        """Return a recording's states, (S, T, D)."""
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
