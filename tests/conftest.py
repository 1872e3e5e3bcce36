"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The models here are so small that threads wait for one another longer than they compute: on two
# busy cores the suite takes ten times as long with two threads. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
from hypothesis import settings

# The same cases in every run, and no failure because a machine is busy.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The golden cases: inputs and outputs of the official code."""
    named = os.environ.get("S3PRL_SPEECHCLIP_GOLDENS")
    folder = Path(named) if named else ROOT.parent / "shared" / "goldens"
    if not folder.is_dir():
        if named:
            pytest.fail(f"S3PRL_SPEECHCLIP_GOLDENS names no folder: '{named}'")
        pytest.skip(
            f"no golden cases: neither S3PRL_SPEECHCLIP_GOLDENS is set nor is '{folder}' there"
        )
    return folder
