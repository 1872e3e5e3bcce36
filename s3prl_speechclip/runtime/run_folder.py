"""The checkpoints in a run's folder: written whole, rotated, and found again after a kill.

Nothing here relies on links or on the order of directory entries: a folder may have been copied
by tools that follow links or drop them.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError

logger = logging.getLogger(__name__)

Read = TypeVar("Read")


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file or folder that appears whole or not at all, whenever the process is killed.

        with atomic_write(folder / "state.pt") as partial:
            torch.save(state, partial)

    Args:
        target: the file or folder; what has that name is replaced.

    Yields:
        Where to write: a path that does not exist, beside `target`.

    Raises:
        CheckpointError: it cannot be written, with the system's reason; `target` is as it was.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        remove(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        for file in partial.rglob("*") if partial.is_dir() else [partial]:
            if file.is_file():  # a name must not reach the disk before its contents
                with file.open("rb") as content:
                    os.fsync(content.fileno())
        if target.is_dir() and not target.is_symlink():
            remove(target)
        os.replace(partial, target)
    except (OSError, RuntimeError, CheckpointError) as error:
        remove(partial)
        raise CheckpointError(
            f"cannot write the checkpoint '{target}' ({error}); free some space, then resume"
        ) from error


def read_values(path: Path) -> Any:
    """Read a file that `torch.save` wrote, in which pickled code is refused.

    Raises:
        CheckpointError: it is missing, damaged, or holds code.
    """
    import torch  # late: the command line's --help reads this module

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as there are damages; torch advises to run the code
        reason = (
            getattr(error, "strerror", None) or "it is damaged, or holds code, which is not run"
        )
        raise CheckpointError(f"cannot read the checkpoint '{path}': {reason}") from error


def link(path: Path, target: Path) -> None:
    """Point a relative symbolic link at a file or folder beside it, whatever had its name."""
    partial = path.with_name(path.name + ".partial")
    remove(partial)
    partial.symlink_to(target.name, target_is_directory=target.is_dir())
    if path.is_dir() and not path.is_symlink():  # a copy of the folder that followed the link
        remove(path)
    os.replace(partial, path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def numbered(folder: Path, prefix: str, suffix: str = "") -> dict[int, Path]:
    """Find a run's checkpoints, named prefix, step, suffix, by step, the oldest first."""
    paths = folder.glob(f"{prefix}*{suffix}")
    steps = {path.name.removeprefix(prefix).removesuffix(suffix): path for path in paths}
    return {int(step): steps[step] for step in sorted(filter(str.isdigit, steps), key=int)}


def drop_old(checkpoints: Iterable[Path], max_keep: int, spared: Iterable[Path] = ()) -> None:
    """Remove all checkpoints, given the oldest first, but the `max_keep` newest and `spared`."""
    kept = set(spared)
    for path in list(checkpoints)[:-max_keep]:
        if path not in kept:
            remove(path)


def read_newest(checkpoints: Sequence[Path], read: Callable[[Path], Read]) -> tuple[Path, Read]:
    """Read the newest checkpoint that can be read, with a warning for each that cannot.

    Args:
        checkpoints: the oldest first, at least one.
        read: reader of one checkpoint, raises CheckpointError where it is damaged.

    Raises:
        CheckpointError: none can be read.
    """
    failures = []
    for path in reversed(checkpoints):
        try:
            value = read(path)
        except CheckpointError as error:
            failures.append(str(error))
            continue
        for failure in failures:
            logger.warning("%s; the checkpoint before it, '%s', is used", failure, path)
        return path, value
    raise CheckpointError(
        f"no checkpoint in '{checkpoints[-1].parent}' can be read ({failures[0]}); restore one, or "
        "remove that folder to start anew"
    )
