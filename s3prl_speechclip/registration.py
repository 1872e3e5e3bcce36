"""Register on `s3prl.hub` the names of this package's upstreams.

s3prl has no place for plug-ins, but every way to an upstream asks `s3prl.hub` for an attribute:
`S3PRLUpstream(name)`, `available_names()`, `-u`. Importing it takes seconds and fails on today's
torchaudio, so a finder waits until the user imports it: what it lacks is supplied before, the names
are set after.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

logger = logging.getLogger(__name__)

HUB = "s3prl.hub"
FOLDER = "upstream.speechclip.hubconf"  # whose names they are, also where it was copied into s3prl


class HubFinder(MetaPathFinder):
    """Finds `s3prl.hub` where it is, and registers the names as soon as it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != HUB:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            from .downstream import compat

            warn_of_two()
            compat.apply()
            run(module)
            register(module)

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def warn_of_two() -> None:
    """Warn where s3prl and ESPnet's fork of it are both installed: both write one folder."""
    from .results import s3prl_versions

    found = s3prl_versions()
    if len(found) > 1:
        names = [f"{name} {version}" for name, version in found.items()]
        logger.warning(
            "%s are both installed in one folder 's3prl', whose files are those of the one that "
            "was installed last: uninstall both, then install one",
            " and ".join(names),
        )


def install() -> None:
    """Register the names now where `s3prl.hub` is imported, else when it will be."""
    if HUB in sys.modules:
        register(sys.modules[HUB])
    elif not any(isinstance(finder, HubFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, HubFinder())


def register(hub: ModuleType) -> None:
    """Set the names of `upstream/speechclip/hubconf.py` on s3prl's hub; never one that it has."""
    from .upstream.speechclip import hubconf

    for name in hubconf.__all__:
        there = vars(hub).get(name)
        if there is None:
            setattr(hub, name, getattr(hubconf, name))
        elif not getattr(there, "__module__", "").endswith(FOLDER):
            logger.warning(
                "s3prl has an upstream '%s' of its own, which stays: this package's is "
                "at s3prl_speechclip.upstream.speechclip.hubconf",
                name,
            )
