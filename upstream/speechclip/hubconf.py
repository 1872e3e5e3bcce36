"""The names by which s3prl knows the models.

`NAME` takes what `-k` takes, or finds a trained model; `NAME_local` takes a path; `NAME_url` takes
the address of an official .ckpt, which is downloaded once. `-g` is a file with the keys of
`expert.UpstreamConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.model.config import VARIANTS

if TYPE_CHECKING:
    from torch import nn

NAMES = (*VARIANTS, "speechclip_encoder")
LOCAL, URL = "_local", "_url"


def _factory(name: str, kind: str) -> Callable[..., nn.Module]:
    """Return the function that builds an upstream from anything, from a path or an address."""

    def build(
        ckpt: str | Path | None = None,
        model_config: str | Path | Mapping[str, Any] | None = None,
        refresh: bool = False,
        batch_invariant: bool | None = None,
    ) -> nn.Module:
        # transformers and open_clip take seconds to import, which `fbank` does not need.
        from .expert import UpstreamExpert

        if kind == LOCAL and (ckpt is None or not Path(ckpt).exists()):
            raise CheckpointError(
                f"{name}_local takes the path of a checkpoint, found '{ckpt}'; give one with -k"
            )
        if kind == URL:
            if ckpt is None or "://" not in str(ckpt):
                raise CheckpointError(
                    f"{name}_url takes the address of a checkpoint, found '{ckpt}'; give one with "
                    "-k"
                )
            ckpt = _download(str(ckpt), refresh)
        return UpstreamExpert(
            ckpt, model_config, name=name, refresh=refresh, batch_invariant=batch_invariant
        )

    build.__name__ = build.__qualname__ = f"{name}{kind}"
    build.__doc__ = f"Build {name}; arguments as of `expert.UpstreamExpert`."
    return build


def _download(address: str, refresh: bool) -> str:
    from s3prl.util.download import _urls_to_filepaths

    try:
        return _urls_to_filepaths(address, refresh=refresh)
    except Exception as error:
        # s3prl tries two clients, which raise many kinds of errors for one cause.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot download '{address}' ({reason}); download it by hand and give the file with -k"
        ) from error


FACTORIES = {f"{name}{kind}": _factory(name, kind) for name in NAMES for kind in ("", LOCAL, URL)}
# s3prl imports a hubconf's names with `*`.
globals().update(FACTORIES)
__all__ = [*FACTORIES]
