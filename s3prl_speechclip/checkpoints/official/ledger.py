"""An account of a checkpoint's weights: each is mapped, dropped for a reason, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError


class Ledger:
    """Hands out an official checkpoint's weights, and remembers what became of each.

    Args:
        state: weights by their official names.
        where: path of the file, for messages.
    """

    def __init__(self, state: Mapping[str, Tensor], where: str) -> None:
        self._state = state
        self._where = where
        self.native: dict[str, Tensor] = {}
        """Weights by this package's names."""
        self.mapped: dict[str, str] = {}
        """Name here by official name."""
        self.dropped: dict[str, str] = {}
        """Reason by official name."""

    def __contains__(self, name: str) -> bool:
        return name in self._state

    def names(self, prefix: str) -> Iterator[str]:
        """Give the official names that begin so."""
        return (name for name in self._state if name.startswith(prefix))

    def look(self, name: str) -> Tensor:
        """Give a weight without accounting for it.

        Raises:
            CheckpointError: there is none of that name.
        """
        if name not in self._state:
            raise CheckpointError(f"'{self._where}' lacks the weight '{name}'")
        return self._state[name]

    def map(self, name: str, native: str, value: Tensor | None = None) -> None:
        """Carry a weight over.

        Args:
            name: official name.
            native: name here.
            value: in another form than the official one, or None.

        Raises:
            CheckpointError: there is none of that name.
        """
        source = self.look(name)
        value = source if value is None else value
        # Released files may hold half precision; the model is float32.
        self.native[native] = value.float() if value.is_floating_point() else value
        self.mapped[name] = native

    def map_layer(self, layer: str, native: str) -> None:
        """Carry a layer's weight and bias over."""
        for leaf in ("weight", "bias"):
            self.map(f"{layer}.{leaf}", f"{native}.{leaf}")

    def add(self, native: str, value: Tensor) -> None:
        """Put down a weight that the official model has without storing it."""
        self.native[native] = value

    def drop(self, name: str, reason: str) -> None:
        """Leave a weight behind, if it is there."""
        if name in self._state:
            self.dropped[name] = reason

    def drop_copies(self, prefix: str, what: str) -> None:
        """Leave behind weights that are stored once more under a prefix.

        Args:
            prefix: what precedes the copies' names.
            what: how the names that are copied begin.

        Raises:
            CheckpointError: one is no copy of what is stored without the prefix.
        """
        for name in self.names(prefix + what):
            copy, original = self._state[name], self.look(name.removeprefix(prefix))
            if copy.data_ptr() != original.data_ptr() and not torch.equal(copy, original):
                raise CheckpointError(
                    f"'{self._where}' holds two different weights '{name}' and "
                    f"'{name.removeprefix(prefix)}', which are one in the official code"
                )
            self.dropped[name] = f"a copy of {name.removeprefix(prefix)}"

    def close(self) -> None:
        """Check that every weight was accounted for.

        Raises:
            CheckpointError: some were not; the message names the first.
        """
        unknown = [n for n in self._state if n not in self.mapped and n not in self.dropped]
        if unknown:
            listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise CheckpointError(
                f"'{self._where}' holds {len(unknown)} weights that this version does not know "
                f"({listed}); it is not converted, because it would compute something else"
            )
