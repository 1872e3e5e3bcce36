"""The command lines behind the `run_*.py` scripts and the installed commands."""
