"""Work that other processes do ahead of its use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import SpeechClipError

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def call_ahead(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Result]:
    """Call a function with each of several arguments; yield the results in order.

    Args:
        function: function to call; a user's error ends the iteration, whichever process met it.
        arguments: its arguments.
        workers: number of other processes; 0: this one calls.
        pin_memory: whether tensors in results are put into pinned memory.
    """
    if not workers and not pin_memory:
        yield from map(function, arguments)
        return
    loader: DataLoader[Any] = DataLoader(
        _Calls(function),
        batch_size=None,
        sampler=arguments,
        collate_fn=lambda result: result,
        num_workers=workers,
        pin_memory=pin_memory,
        # Without one of its own, a loader advances the global generator, and dropout with it.
        generator=torch.Generator(),
    )
    for result in loader:
        if isinstance(result, SpeechClipError):
            raise result
        yield result


class _Calls(Dataset[Any]):
    """Results of a function, or its error: torch wraps what a worker raises in a traceback."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __getitem__(self, argument: Any) -> Any:
        try:
            return self._function(argument)
        except SpeechClipError as error:
            return error
