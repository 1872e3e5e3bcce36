"""Files and folders written whole, rotated, and found again."""

from __future__ import annotations

import gzip
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.runtime.run_folder import (
    atomic_write,
    drop_old,
    link,
    numbered,
    read_newest,
    read_values,
)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_written_leaves_the_old(tmp_path: Path, kind: str) -> None:
    """Guards the last good checkpoint against a disk that is full."""
    target = tmp_path / "state"
    for content in ("old", None, "new"):
        try:
            with atomic_write(target) as partial:
                if kind == "folder":
                    partial.mkdir()
                (partial / "part" if kind == "folder" else partial).write_text(content or "half")
                if content is None:
                    raise OSError("no space left on device")
        except CheckpointError as error:
            assert "no space left" in str(error) and str(target) in str(error)
            found = target / "part" if kind == "folder" else target
            assert found.read_text() == "old"
    assert (target / "part" if kind == "folder" else target).read_text() == "new"
    assert os.listdir(tmp_path) == ["state"]


def test_a_process_killed_while_it_writes_leaves_the_old(tmp_path: Path) -> None:
    """Guards against a torn file under the checkpoint's name, and a leftover that is in the way."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from s3prl_speechclip.runtime.run_folder import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "state"
    target.write_text("old")
    assert subprocess.run([sys.executable, "-c", program, str(target)]).returncode == -9
    assert target.read_text() == "old"
    with atomic_write(target) as partial:
        assert not partial.exists()
        partial.write_text("new")
    assert target.read_text() == "new"


def test_checkpoints_are_found_by_step_and_dropped_but_for_the_newest(tmp_path: Path) -> None:
    """Guards against an order of names, in which 10 comes before 9, and against half a folder."""
    for name in ("step-9", "step-10", "step-2", "step-2.partial", "step-x", "best"):
        (tmp_path / name).mkdir()
    found = numbered(tmp_path, "step-")
    assert [path.name for path in found.values()] == ["step-2", "step-9", "step-10"]
    drop_old(found.values(), 1, spared=[found[2]])
    assert list(numbered(tmp_path, "step-")) == [2, 10]
    assert numbered(tmp_path / "missing", "step-") == {}


def test_a_link_replaces_what_a_copying_tool_made_of_it(tmp_path: Path) -> None:
    """Guards runs in folders copied by `cp -L`, where a link has become a folder."""
    for name in ("step-1", "step-2", "last"):
        (tmp_path / name).mkdir()
    (tmp_path / "last" / "file").touch()
    for name in ("step-1", "step-2"):
        link(tmp_path / "last", tmp_path / name)
        assert os.readlink(tmp_path / "last") == name


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a run that a truncated file ends, and against a fallback in silence."""
    paths = [tmp_path / name for name in ("1", "2", "3")]
    for path, content in zip(paths, ("one", "two", ""), strict=True):
        path.write_text(content)

    def read(path: Path) -> str:
        if not path.read_text():
            raise CheckpointError(f"'{path}' is damaged")
        return path.read_text()

    with caplog.at_level(logging.WARNING):
        assert read_newest(paths, read) == (paths[1], "two")
    assert f"'{paths[2]}' is damaged" in caplog.text and str(paths[1]) in caplog.text
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        read_newest(paths[2:], read)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<!DOCTYPE html><html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        gzip.compress(b"values", mtime=0),
        pickle.dumps({"step": 1}),
        bytes(2000),
        b"PK\x03\x04" + bytes(2000),
    ],
)
def test_a_file_that_holds_no_values_is_an_error_of_one_line(tmp_path: Path, content: bytes):
    """Guards against torch's KeyError for some texts, and its advice to run what a file holds."""
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt': it is damaged, or holds code") as error:
        read_values(path)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="No such file"):
        read_values(tmp_path / "nothing")
