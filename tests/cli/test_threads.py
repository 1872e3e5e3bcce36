"""How threads wait is settled before torch is loaded, whichever way a command starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WATCH = """
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""
STARTS = {
    # torchrun runs such a file too.
    "run_pretrain.py": ["--dry-run"],
    "run_downstream.py": ["-u", "fbank"],
    "run_benchmark.py": ["speed"],
    "s3prl_speechclip.cli.pretrain": ["--dry-run"],
    "s3prl_speechclip.cli.downstream": ["-u", "fbank"],
    "s3prl_speechclip.cli.benchmark": ["speed"],
    "s3prl_speechclip.minis": ["make", "table"],
}


@pytest.mark.parametrize(
    ("start", "chosen", "found"),
    [
        *((start, {}, ["None", "1000"]) for start in STARTS),
        ("run_benchmark.py", {"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
        ("run_benchmark.py", {"GOMP_SPINCOUNT": "7"}, ["None", "7"]),
    ],
)
def test_threads_spin_briefly(start: str, chosen: dict[str, str], found: list[str]) -> None:
    """Guards against torch before the setting, which would then do nothing, and against a setting
    that overrules the user's."""
    run = f"run_path({start!r}" if start.endswith(".py") else f"run_module({start!r}"
    code = f"{WATCH}sys.argv = {[start, *STARTS[start]]!r}\nrunpy.{run}, run_name='__main__')"
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    environment |= chosen
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == found, done.stderr
