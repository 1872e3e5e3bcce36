"""The names of upstreams on s3prl's hub, known before it is imported, which takes seconds."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ..checkpoints.locate import locate_model
from ..errors import ConfigError, unknown_name
from ..model.config import ENCODER, VARIANTS
from ..upstream.speechclip import hubconf

HUB = "s3prl.hub"
HUBCONF = "hubconf"  # s3prl's name of the modules that declare the names
LOCAL = ("_local", "_url", "_custom", "_gdriveid")  # endings of names that need -k


def check_upstream(name: str, ckpt: str | None) -> None:
    """Check `-u` and `-k` as far as that takes no import of s3prl, which takes seconds.

    Raises:
        ConfigError: s3prl's hub has no such name, or the name needs weights that are not there.
        CheckpointError: there is no such checkpoint of one of this package's models.
    """
    names = hub_names()
    if name not in names:
        raise ConfigError(unknown_name("upstream", name, names))
    if ckpt is None and name.endswith(LOCAL):
        raise ConfigError(f"-u {name} needs its weights: give them with -k")
    if ckpt is not None and name.endswith("_local") and not Path(ckpt).exists():
        raise ConfigError(f"-k: no file or folder '{ckpt}', which -u {name} reads")
    if ckpt is not None and name in hubconf.NAMES:
        locate_model(next(iter(VARIANTS)) if name == ENCODER else name, ckpt)


def hub_names() -> set[str]:
    """Return the names of upstreams on s3prl's hub, read from its source until it is imported."""
    if HUB in sys.modules:
        there = vars(sys.modules[HUB]).items()
        names = {name for name, value in there if callable(value)}
    else:
        package = find_spec("s3prl")
        if package is None or package.origin is None:
            raise ModuleNotFoundError("No module named 's3prl'", name="s3prl")
        names = {*_declared(Path(package.origin).with_name("hub.py")), *hubconf.__all__}
    return {name for name in names if not name.startswith("_") and name != "options"}


def _declared(path: Path) -> Iterator[str]:
    """List the functions of one of s3prl's modules, and those that it takes from hubconfs."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").endswith(HUBCONF):
            for alias in node.names:
                if alias.name == "*":
                    inner = (node.module or "").split(".")[1:]  # the first is s3prl
                    yield from _declared(path.parent.joinpath(*inner).with_suffix(".py"))
                else:
                    yield alias.asname or alias.name
