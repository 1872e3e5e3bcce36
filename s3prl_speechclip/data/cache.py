"""Where fetched and prepared files are kept, and how a folder is made once and whole."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CorpusError

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "S3PRL_SPEECHCLIP_CACHE"


def cache_home() -> Path:
    """Give the cache folder: `$S3PRL_SPEECHCLIP_CACHE`, else `~/.cache/s3prl_speechclip`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "s3prl_speechclip"


def is_prepared(root: Path, listing: str) -> bool:
    """Say whether a folder holds prepared files, by the listing that is written last.

    Raises:
        CorpusError: it holds something else.
    """
    if (root / listing).is_file():
        return True
    if root.is_dir() and any(root.iterdir()):
        raise CorpusError(
            f"'{root}' holds no {listing}: expected a folder that was prepared here, or an empty "
            "one to prepare; name another folder"
        )
    return False


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Give a folder that is made at its first use, whole or not at all.

    A second process that wants the same folder waits for the first. What a killed process left
    half done lies under another name and is thrown away at the next try.

    Args:
        folder: the folder to give.
        make: fills an empty folder, which is then renamed to `folder`.

    Returns:
        `folder`, resolved.

    Raises:
        CorpusError: the folder cannot be written, the disk is full, or `folder` exists and is a
            file.
    """
    folder = folder.expanduser().absolute()
    if _is_made(folder):
        return folder
    with writing(folder), locked(folder.with_name(f".{folder.name}.lock")):
        if _is_made(folder):
            return folder
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that makes %s", path.parent)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure of the disk into an error that names the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder) from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise CorpusError(
                f"'{folder}' is in the way: expected no such file or an empty folder; "
                "move it or name another"
            ) from error
        raise CorpusError(
            f"cannot write '{folder}' ({error.strerror or error}); name another folder, or set "
            f"{CACHE_VARIABLE} to one that can be written"
        ) from error


def disk_full(folder: Path) -> CorpusError:
    """Describe a full disk."""
    return CorpusError(
        f"no space left on the disk of '{folder}'; free some, or set {CACHE_VARIABLE} to a folder "
        "on another disk"
    )


def _is_made(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
