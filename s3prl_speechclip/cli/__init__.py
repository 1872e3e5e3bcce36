"""The command lines behind the `run_*.py` scripts and the installed commands."""

import os

# Threads that spin while they wait take the cores of a busy machine from other processes. OpenMP
# reads this when torch is loaded, which the commands do after this file.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
