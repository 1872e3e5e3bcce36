"""The names by which s3prl knows the models.

`NAME` takes what `-k` takes, or finds a trained model; `NAME_local` takes a path; `NAME_url` takes
the address of an official .ckpt, which is downloaded once. `-g` is a file with the keys of
`expert.UpstreamConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.model.config import VARIANTS

NAMES = (*VARIANTS, "speechclip_encoder")
KINDS = ("", "_local", "_url")
__all__ = [f"{name}{kind}" for name in NAMES for kind in KINDS]


class Factory(Protocol):
    """Makes an upstream, as s3prl calls for one."""

    def __call__(
        self,
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> nn.Module:
        """Make it; arguments as of `expert.UpstreamExpert`."""


def _factories(name: str) -> tuple[Any, ...]:
    """Give what makes the upstream of a hub name, from anything, a path and an address."""

    def from_anything(
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> nn.Module:
        # transformers and open_clip take seconds to import; who asks for `fbank` need not wait.
        from .expert import UpstreamExpert

        return UpstreamExpert(
            ckpt, model_config, name=name, refresh=refresh, batch_invariant=batch_invariant
        )

    def from_path(
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> nn.Module:
        if ckpt is None or not Path(ckpt).exists():
            raise CheckpointError(
                f"{name}_local takes the path of a checkpoint, found '{ckpt}'; give one with -k"
            )
        return from_anything(ckpt, model_config, refresh, batch_invariant)

    def from_address(
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> nn.Module:
        if ckpt is None or "://" not in str(ckpt):
            raise CheckpointError(
                f"{name}_url takes the address of a checkpoint, found '{ckpt}'; give one with -k"
            )
        return from_anything(_download(str(ckpt), refresh), model_config, refresh, batch_invariant)

    made = from_anything, from_path, from_address
    for factory, kind in zip(made, KINDS, strict=True):
        factory.__name__ = factory.__qualname__ = f"{name}{kind}"
        factory.__doc__ = f"Make {name}; arguments as of `expert.UpstreamExpert`."
    return made


def _download(address: str, refresh: bool) -> str:
    from s3prl.util.download import _urls_to_filepaths

    try:
        return _urls_to_filepaths(address, refresh=refresh)
    except Exception as error:
        # s3prl tries two clients, which raise many kinds for one cause: it is not to be had.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot download '{address}' ({reason}); download it by hand and give the file with -k"
        ) from error


# s3prl reads the names as attributes of this module.
for _name in NAMES:
    globals().update({factory.__name__: factory for factory in _factories(_name)})
