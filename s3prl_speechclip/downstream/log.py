"""What s3prl's experts report, written for TensorBoard and remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class ScalarLog(SummaryWriter):
    """TensorBoard scalars that can be asked for.

    Args:
        folder: of the experiment.
        from_step: later scalars, of a run that went further before it was interrupted, are hidden.
    """

    def __init__(self, folder: Path, from_step: int = 0) -> None:
        self._last: dict[str, float] = {}
        super().__init__(str(folder / "tensorboard"), purge_step=from_step + 1)

    def add_scalar(self, tag: str, scalar_value: Any, *args: Any, **kwargs: Any) -> None:
        """Write a scalar, and remember it under its tag."""
        self._last[tag] = float(scalar_value)
        super().add_scalar(tag, scalar_value, *args, **kwargs)

    def of(self, split: str) -> dict[str, float]:
        """Give a split's last scalars by the metric's name; s3prl tags them `task/split-metric`."""
        named = {tag.rpartition("/")[2]: value for tag, value in self._last.items()}
        return {
            name.removeprefix(f"{split}-"): value
            for name, value in named.items()
            if name.startswith(f"{split}-")
        }
