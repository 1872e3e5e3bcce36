"""The command lines behind the `run_*.py` scripts and the installed commands."""

import os
import time

SPIN = 1000  # rounds that a waiting thread spins before it sleeps
BUSY = 0.5  # cores
WATCHED = 0.1  # seconds


def cores_in_use() -> float:
    """Return how many cores other processes use, watched while this one sleeps."""
    before = _busy_ticks()
    time.sleep(WATCHED)
    return (_busy_ticks() - before) / (WATCHED * os.sysconf("SC_CLK_TCK"))


def _busy_ticks() -> int:
    """Return the time that all cores have worked; 0 on systems that do not say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _idle, _waiting, *others = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return 0
    return user + nice + system + sum(others)


# Threads that spin long while they wait take the cores of a busy machine from other processes; that
# they sleep almost at once costs much of the speed on a quiet one (docs/speed.md). OpenMP reads
# this when torch is loaded, which the commands do after this file.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys() and cores_in_use() > BUSY:
    os.environ["GOMP_SPINCOUNT"] = str(SPIN)
