"""Open an official checkpoint without running any code in it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, first_line

MISSING = object()


class Record:
    """Stand-in for a configuration class of the official code: keeps its pickled state."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, Mapping):
            raise pickle.UnpicklingError("a configuration's state must be a mapping")
        self.__dict__.update(state)


class Name:
    """Stand-in for a class that a file only mentions, as a key or a type."""


# The only classes besides tensors and plain containers that official files refer to: the
# configuration, the form that Lightning may keep it in, and the callback whose state Lightning
# files under its class.
STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Record, "avssl.base.ordered_namespace.OrderedNamespace"),
    (Record, "argparse.Namespace"),
    (Name, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
]


@dataclass(frozen=True)
class Settings:
    """The training configuration in an official file."""

    values: Mapping[str, Any]
    where: str
    """Path of the file, for messages."""

    def get(self, name: str, default: Any = MISSING) -> Any:
        """Look a value up by its dotted name.

        Raises:
            CheckpointError: there is none, and no default.
        """
        found: Any = self.values
        for part in name.split("."):
            if not isinstance(found, Mapping) or part not in found:
                if default is MISSING:
                    raise CheckpointError(
                        f"'{self.where}' is not a SpeechCLIP checkpoint that can be used: its "
                        f"configuration lacks '{name}'"
                    )
                return default
            found = found[part]
        return found


@dataclass(frozen=True)
class OfficialFile:
    """Content of an official checkpoint."""

    settings: Settings
    state: Mapping[str, Tensor]
    """Weights by their official names."""
    step: int
    epoch: int


def open_official(path: Path) -> OfficialFile:
    """Read the configuration and weights of an official checkpoint; nothing in it is run.

    Raises:
        CheckpointError: it is damaged, refers to a class that such files do not hold, or is not
            one of SpeechCLIP.
    """
    content = _load(path)
    settings = plain(content.get("hyper_parameters", {})) if isinstance(content, dict) else {}
    if not isinstance(settings, dict) or not isinstance(settings.get("config"), dict):
        raise CheckpointError(
            f"'{path}' is not an official SpeechCLIP checkpoint: it lacks hyper_parameters.config"
        )
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"'{path}' holds no weights under state_dict")
    return OfficialFile(
        settings=Settings(settings["config"], str(path)),
        state=state,
        step=int(content.get("global_step", 0)),
        epoch=int(content.get("epoch", 0)),
    )


def plain(value: Any) -> Any:
    """Convert stand-ins to plain dictionaries, recursively."""
    if isinstance(value, Record):
        return {str(key): plain(item) for key, item in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Allow torch.load the stand-ins, and nothing that other packages have registered."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(STAND_INS):
            yield
    finally:
        torch.serialization.add_safe_globals(registered)


def _load(path: Path) -> Any:
    try:
        with _only_stand_ins():
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if refused:
                raise CheckpointError(
                    f"'{path}' is refused: it refers to {', '.join(sorted(refused))}, which "
                    "official checkpoints do not hold; nothing in it was run"
                )
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint '{path}'") from error
    except Exception as error:
        # A damaged or hostile archive fails in as many ways as it has bytes.
        raise CheckpointError(
            f"'{path}' cannot be read as a checkpoint: {first_line(error)}"
        ) from error
