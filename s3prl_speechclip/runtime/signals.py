"""SIGTERM and SIGINT as a request to stop after the current step, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from lightning.fabric import Fabric

from .distributed import all_true

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Catch SIGTERM and SIGINT inside a `with` block, so that a loop can stop at a step.

        with StopSignal(fabric) as stop:
            while step < total_steps and not stop.requested():
                ...

    Args:
        fabric: launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._caught = False

    def __enter__(self) -> StopSignal:
        self._previous = {number: signal.signal(number, self._catch) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Return whether any process caught a signal; the same in all, which must all call it."""
        return not all_true(not self._caught, self._fabric.device)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught = True
