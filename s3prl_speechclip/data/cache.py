"""The cache of fetched and prepared files: folders that are made once, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from ..errors import CorpusError

log = logging.getLogger(__name__)

CACHE_VARIABLE = "S3PRL_SPEECHCLIP_CACHE"


def cache_home() -> Path:
    """Return the cache folder: `$S3PRL_SPEECHCLIP_CACHE`, else `s3prl_speechclip` in the user's.

    The user's is `~/.cache` on Linux, or `$XDG_CACHE_HOME`.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("s3prl_speechclip", False)


def is_prepared(root: Path, listing: str) -> bool:
    """Return whether a folder holds prepared files, by the listing that is written last."""
    if (root / listing).is_file():
        return True
    if root.is_dir() and any(root.iterdir()):
        raise CorpusError(
            f"'{root}' holds no {listing}: expected a folder that was prepared here, or an empty "
            "one to prepare; name another folder"
        )
    return False


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made at its first use, whole or not at all.

    A second process that wants the same folder waits for the first. The remains of a killed process
    have another name and are removed at the next try.

    Args:
        folder: folder to make.
        make: function that fills an empty folder, which is then renamed to `folder`.

    Raises:
        CorpusError: the folder cannot be written, the disk is full, or a file or another user's
            folder is in its place.
    """
    folder = folder.expanduser().absolute()
    if _is_made(folder):
        return folder
    with writing(folder), locked(folder.with_name(f".{folder.name}.lock")):
        partial = folder.with_name(f".{folder.name}.partial")
        if not _is_made(folder):
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                make(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; it is released when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("waiting for another process that makes %s", path.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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


def check_owner(path: Path) -> None:
    """Check that a cache entry is this user's or root's.

    Raises:
        CorpusError: another user could have written anything there.
    """
    owner = path.stat().st_uid
    if owner not in (os.getuid(), 0):
        raise CorpusError(
            f"'{path}' in the cache belongs to another user (id {owner}) and is not trusted; "
            f"remove it, or set {CACHE_VARIABLE} to a folder of your own"
        )


def _is_made(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    check_owner(folder)
    return any(folder.iterdir())
