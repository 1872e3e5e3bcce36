"""Work on all cores, in processes that may die without the user's program."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..errors import CorpusError

PR_SET_PDEATHSIG = 1  # of Linux's sys/prctl.h
CHUNK = 16  # pieces of work that a worker takes at a time

Work = TypeVar("Work")
Made = TypeVar("Made")


def in_workers(make: Callable[[Work], Made], works: Sequence[Work], what: str) -> Iterator[Made]:
    """Do the work on all cores; results come in the order of `works`, as soon as they are there.

    Args:
        make: a function of a module, that uses no torch and no lock of the parent's.
        works: what it is called with, one at a time.
        what: names the work in errors.

    Raises:
        CorpusError: a worker process died.
    """
    # Forked workers start at once: spawned ones would import torch again. They do nothing that
    # forking beside other threads endangers: no torch, no locks of the parent's.
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        with ProcessPoolExecutor(_cores(), context, _die_with_parent, (os.getpid(),)) as pool:
            try:
                yield from pool.map(make, works, chunksize=CHUNK)
            except BrokenProcessPool as error:
                raise CorpusError(
                    f"a worker process died while {what}; memory may be short: free some and try "
                    "again"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _die_with_parent(parent: int) -> None:
    """End a worker when its parent is killed: it would wait for work, holding the corpus's lock."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)))
