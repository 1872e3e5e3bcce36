"""The command lines behind the `run_*.py` scripts and the installed commands."""

import os

# Threads that spin long while they wait take the cores of a busy machine from other processes; that
# they sleep at once costs a quarter of the speed on a quiet one (docs/speed.md). OpenMP reads this
# when torch is loaded, which the commands do after this file.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
