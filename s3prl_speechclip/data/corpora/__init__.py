"""The corpora of recordings and images, one file each.

To add a corpus, add a file here that declares a `CORPUS`: the folder is listed, so that its name
appears in `--data`, in the command lines' help and in error messages.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from ...errors import CorpusError, unknown_name
from ..manifest import Manifest
from .corpus import ROOT_VARIABLE, Corpus, default_root

__all__ = [
    "CORPORA",
    "ROOT_VARIABLE",
    "Corpus",
    "check_corpus",
    "default_root",
    "find_corpus",
    "load_corpus",
]


def _declared() -> dict[str, Corpus]:
    modules = [vars(import_module(f"{__name__}.{m.name}")) for m in pkgutil.iter_modules(__path__)]
    declared: list[Corpus] = [module["CORPUS"] for module in modules if "CORPUS" in module]
    declared.sort(key=lambda corpus: (not corpus.fetched, corpus.name))
    return {corpus.name: corpus for corpus in declared}


CORPORA: Mapping[str, Corpus] = _declared()


def find_corpus(name: str) -> Corpus:
    """Look a corpus up by its name, or by the path of a folder of one's own.

    Raises:
        CorpusError: no corpus has that name; the message names the nearest.
    """
    if name not in CORPORA and not is_folder(name):
        raise CorpusError(unknown_name("corpus", name, CORPORA))
    return CORPORA.get(name, CORPORA["own"])


def is_folder(name: str) -> bool:
    """Return whether a name stands for a folder of one's own."""
    return name not in CORPORA and ("/" in name or Path(name).expanduser().is_dir())


def load_corpus(
    name: str,
    root: str | Path | None = None,
    archive: str | Path | None = None,
    skip_broken: bool = False,
) -> Manifest:
    """Read a corpus.

    Args:
        name: one of `CORPORA`, or the path of a folder of one's own, see `own`.
        root: folder of the corpus; default: the folder `name` in the folder that the environment
            variable S3PRL_SPEECHCLIP_DATA names. A fetched corpus needs none.
        archive: package file that a fetched corpus is made from where there is no apt.
        skip_broken: leave out, and count, what is missing or broken.

    Raises:
        CorpusError: the name is unknown, no folder is given, or the corpus is missing, incomplete
            or not in its layout.
    """
    folder = check_corpus(name, root, archive)
    corpus = find_corpus(name)
    if corpus.fetched:
        from ...minis import mini_set

        package = Path(archive).expanduser() if archive else None
        made = mini_set(name, package, root=folder)
        return corpus.read(made.root, skip_broken)
    assert folder is not None
    return corpus.read(folder, skip_broken)


def check_corpus(
    name: str, root: str | Path | None = None, archive: str | Path | None = None
) -> Path | None:
    """Find the folder of a corpus without reading it; None: that of a fetched one's own.

    Args:
        name, root, archive: as of `load_corpus`.

    Raises:
        CorpusError: the name is unknown, or there is no such folder or package file.
    """
    corpus = find_corpus(name)
    if is_folder(name):
        if root:
            raise CorpusError(f"--data '{name}' is a folder itself; leave --data-root out")
        root = name
    folder = Path(root).expanduser().absolute() if root else None
    if corpus.fetched:
        if archive and not Path(archive).expanduser().exists():
            raise CorpusError(f"--archive: no file or folder '{archive}'")
        return folder
    if archive:
        fetched = " and ".join(known.name for known in CORPORA.values() if known.fetched)
        raise CorpusError(f"--archive is for {fetched}; {name} is read from --data-root DIR")
    folder = folder or default_root(name)
    if folder is None:
        raise CorpusError(
            f"{name} is not fetched and needs its folder: give --data-root DIR, "
            f"or set {ROOT_VARIABLE} to a folder that holds '{name}/'"
        )
    corpus.require_folder(folder)
    return folder
