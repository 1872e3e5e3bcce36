"""Folders that are made once and whole: killed, raced, on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3prl_speechclip.data.cache import CACHE_VARIABLE, cache_home, made_once
from s3prl_speechclip.errors import CorpusError

MAKE_SLOWLY = """
import sys, time
from pathlib import Path
from s3prl_speechclip.data.cache import made_once
def make(folder):
    (folder / "first").write_text("1")
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(float(sys.argv[3]))
    (folder / "second").write_text("2")
made_once(Path(sys.argv[1]), make)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


def wait_for(path: Path, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"'{path}' never came"
        time.sleep(0.01)


def test_cache_home_follows_the_environment(tmp_path: Path, monkeypatch) -> None:
    """Guards users whose home is small."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_home() == tmp_path


def test_killed_work_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """Guards against half a corpus that a later run takes for the whole."""
    folder, log = tmp_path / "made", tmp_path / "log"
    process = start(MAKE_SLOWLY, folder, log, 60)
    wait_for(log)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    made_once(folder, lambda to: (to / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_two_processes_make_a_folder_once(tmp_path: Path) -> None:
    """Guards against a race between the processes of one torchrun."""
    folder, log = tmp_path / "made", tmp_path / "log"
    processes = [start(MAKE_SLOWLY, folder, log, 0.5) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert log.read_text() == "made\n"
    assert {path.name for path in folder.iterdir()} == {"first", "second"}


def test_a_full_disk_is_named_with_the_remedy(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as out:
            out.write(b"x")

    with pytest.raises(CorpusError, match="no space left.*S3PRL_SPEECHCLIP_CACHE"):
        made_once(tmp_path / "made", fill)
    assert not (tmp_path / "made").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    with pytest.raises(CorpusError, match="made' is in the way"):
        made_once(tmp_path / "made", lambda to: (to / "x").touch())
    assert (tmp_path / "made").read_text() == "mine"


def test_an_entry_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch) -> None:
    """Guards a shared cache against what another user put there; root's entries are trusted."""
    folder = made_once(tmp_path / "made", lambda to: (to / "x").touch())
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    if owner == 0:
        assert made_once(folder, lambda to: None) == folder
        os.chown(folder, 4321, -1)
    with pytest.raises(CorpusError, match="made' in the cache belongs to another user"):
        made_once(folder, lambda to: None)
    assert (folder / "x").exists()
