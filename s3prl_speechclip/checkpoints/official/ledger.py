"""An account of a checkpoint's weights: each is mapped, dropped for a reason, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError


class Ledger:
    """The weights of an official checkpoint, with the account of what became of each.

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
        """Return the official names with a prefix."""
        return (name for name in self._state if name.startswith(prefix))

    def count(self, prefix: str) -> int:
        """Count the numbered parts, such as layers, whose names follow a prefix."""
        return len({name.removeprefix(prefix).partition(".")[0] for name in self.names(prefix)})

    def look(self, name: str) -> Tensor:
        """Return a weight without accounting for it; raises CheckpointError if it is missing."""
        if name not in self._state:
            raise CheckpointError(f"'{self._where}' lacks the weight '{name}'")
        return self._state[name]

    def map(self, name: str, native: str, value: Tensor | None = None) -> None:
        """Convert a weight, as it is or to `value`; raises CheckpointError if it is missing."""
        source = self.look(name)
        value = source if value is None else value
        # Released files may hold half precision; the model is float32.
        self.native[native] = value.float() if value.is_floating_point() else value
        self.mapped[name] = native

    def map_layer(self, layer: str, native: str) -> None:
        """Convert a layer's weight and bias."""
        for leaf in ("weight", "bias"):
            self.map(f"{layer}.{leaf}", f"{native}.{leaf}")

    def add(self, native: str, value: Tensor) -> None:
        """Add a weight that the official model has without storing it."""
        self.native[native] = value

    def drop(self, name: str, reason: str) -> None:
        """Leave out a weight, if it is there."""
        if name in self._state:
            self.dropped[name] = reason

    def drop_copies(self, prefix: str, what: str) -> None:
        """Leave out copies of weights under a prefix; raises CheckpointError if one differs."""
        for name in self.names(prefix + what):
            copy, original = self._state[name], self.look(name.removeprefix(prefix))
            if copy.data_ptr() != original.data_ptr() and not torch.equal(copy, original):
                raise CheckpointError(
                    f"'{self._where}' holds two different weights '{name}' and "
                    f"'{name.removeprefix(prefix)}', which are one in the official code"
                )
            self.dropped[name] = f"a copy of {name.removeprefix(prefix)}"

    def close(self) -> None:
        """Check that every weight was accounted for; raises CheckpointError if not."""
        unknown = [n for n in self._state if n not in self.mapped and n not in self.dropped]
        if unknown:
            listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise CheckpointError(
                f"'{self._where}' holds {len(unknown)} weights that this version does not know "
                f"({listed}); it is not converted, because it would compute something else"
            )
