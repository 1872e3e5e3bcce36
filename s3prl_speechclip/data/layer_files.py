"""Frames of recordings on disk, layer by layer: all layers of a corpus outgrow the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class LayerFiles(tempfile.TemporaryDirectory[str]):
    """A file a layer, in a folder that is removed at the end of a `with` block.

    Args:
        home: folder to make it in; made where it is missing.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(dir=home, prefix="features-")
        self._widths: dict[int, int] = {}

    def __enter__(self) -> LayerFiles:  # type: ignore[override]
        return self

    @property
    def layers(self) -> list[int]:
        """The layers that were added."""
        return list(self._widths)

    def add(self, states: Mapping[int, Tensor]) -> None:
        """Append a recording's frames, (T, D) float32 on the CPU, by layer."""
        for layer, frames in states.items():
            self._widths[layer] = frames.shape[1]
            with self._file(layer).open("ab") as file:
                file.write(frames.contiguous().numpy().data)

    def read(self, layer: int) -> Tensor:
        """Read the frames of all recordings, one after another, (sum of T, D)."""
        values = np.fromfile(self._file(layer), dtype=np.float32)
        return torch.from_numpy(values.reshape(-1, self._widths[layer]))

    def _file(self, layer: int) -> Path:
        return Path(self.name) / str(layer)
