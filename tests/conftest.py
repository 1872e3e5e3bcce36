"""Fixtures that several tests share."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

# The models here are so small that threads wait for one another longer than they compute: on two
# busy cores the suite takes ten times as long with two threads. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
from hypothesis import settings

# The same cases in every run, and no failure because a machine is busy.
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
# Other cases in every run, many: pytest --hypothesis-profile=soak
settings.register_profile("soak", deadline=None, max_examples=3_000)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the golden cases: inputs, weights and outputs of the official code.

    S3PRL_SPEECHCLIP_GOLDENS names another folder of the same layout.
    """
    named = os.environ.get("S3PRL_SPEECHCLIP_GOLDENS")
    if named:
        if not Path(named).is_dir():
            pytest.fail(f"S3PRL_SPEECHCLIP_GOLDENS names no folder: '{named}'")
        return Path(named)
    folder = tmp_path_factory.mktemp("goldens")
    # One archive: the cases share their encoders, which xz then stores once.
    with tarfile.open(ROOT / "tests" / "goldens" / "goldens.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
