"""The corpora by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import CorpusError, unknown_name
from ..manifest import Manifest
from . import flickr8k, places, spokencoco

ROOT_VARIABLE = "S3PRL_SPEECHCLIP_DATA"  # a folder that holds one folder a corpus

Reader = Callable[[Path, bool], Manifest]

READERS: Mapping[str, Reader] = {
    "flickr8k": flickr8k.read,
    "spokencoco": spokencoco.read,
    "places": places.read,
}
FETCHED = ("stamps", "named_pictures")
CORPORA = (*FETCHED, *READERS)


def load_corpus(
    name: str,
    root: str | Path | None = None,
    archive: str | Path | None = None,
    skip_broken: bool = False,
) -> Manifest:
    """Read a corpus.

    Args:
        name: one of `CORPORA`.
        root: where it lies; without it, the folder `name` in the folder that the environment
            variable S3PRL_SPEECHCLIP_DATA names. `FETCHED` ones need neither.
        archive: the package file that these are unpacked from where there is no apt.
        skip_broken: leave out, and count, what is missing or broken.

    Raises:
        CorpusError: the name is unknown, no place is given, or the corpus is missing, incomplete
            or not in its official layout.
    """
    if name not in CORPORA:
        raise CorpusError(unknown_name("corpus", name, CORPORA))
    if name in FETCHED:
        # Late: what fetching needs is not needed to read the others.
        from ...minis import named_pictures, stamps

        read = {"stamps": stamps.read, "named_pictures": named_pictures.read}[name]
        return read(
            root=Path(root).expanduser() if root else None,
            archive=Path(archive).expanduser() if archive else None,
            skip_broken=skip_broken,
        )
    if archive:
        fetched = " and ".join(FETCHED)
        raise CorpusError(f"--archive is for {fetched}; {name} is read from --data-root DIR")
    return READERS[name](_root(name, root), skip_broken)


def _root(name: str, root: str | Path | None) -> Path:
    if root:
        return Path(root).expanduser().absolute()
    parent = os.environ.get(ROOT_VARIABLE)
    if not parent:
        raise CorpusError(
            f"{name} is not fetched and needs its place: give --data-root DIR, "
            f"or set {ROOT_VARIABLE} to a folder that holds '{name}/'"
        )
    return Path(parent).expanduser().absolute() / name
