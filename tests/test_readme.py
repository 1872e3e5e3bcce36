"""What the README says is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_speechclip.cli.readme import blocks, place


def section(root: Path, title: str) -> str:
    text = (root / "README.md").read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", ["demo", "superb"])
def test_the_tables_are_the_committed_results(name: str, root: Path) -> None:
    """Guards against figures that no file holds."""
    found = place(name).search((root / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == blocks(root)[name]


@pytest.mark.parametrize("case", ["hybrid_plus", "parallel"])
def test_the_released_checkpoints_are_used_as_written(
    case: str, root: Path, goldens: Path, tmp_path: Path
) -> None:
    """Guards the section on released checkpoints, line by line."""
    shutil.copyfile(goldens / case / "official.ckpt", tmp_path / "official.ckpt")
    text = section(root, "Using the released checkpoints")
    python, shell = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "sh")
    )
    assert python is not None and shell is not None
    done = subprocess.run(
        [sys.executable, "-c", python[1]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "native" / "model.safetensors").is_file()
    shutil.rmtree(tmp_path / "native")
    convert = shell[1].splitlines()[0].partition("#")[0].split()
    done = subprocess.run(
        [sys.executable, *convert[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "native" / "config.json").is_file()


def test_every_command_of_the_readme_has_an_option_that_exists(root: Path) -> None:
    """Guards against an option that was renamed after it was written down."""
    text = (root / "README.md").read_text(encoding="utf-8")
    shown: dict[tuple[str, ...], str] = {}
    for script in ("run_pretrain.py", "run_downstream.py", "run_benchmark.py"):
        for line in text.replace("\\\n", " ").splitlines():
            if f"{script} " not in line or "python" not in line:
                continue
            arguments = line.partition(script)[2].partition("#")[0]
            # The options of a benchmark are those of its task, the first word after the script.
            task = arguments.split()[:1] if script == "run_benchmark.py" else []
            command = (script, *task)
            if command not in shown:
                shown[command] = subprocess.run(
                    [sys.executable, *command, "--help"],
                    cwd=root,
                    capture_output=True,
                    text=True,
                    timeout=120,
                ).stdout
            for option in re.findall(r" (--?[a-z][a-z-]*)", arguments):
                assert f"{option}" in shown[command], (command, option)


def test_the_page_of_what_is_tested_names_tests_that_are_there(root: Path) -> None:
    """Guards docs/robustness.md against a test that was renamed or removed."""
    for row in (root / "docs" / "robustness.md").read_text(encoding="utf-8").splitlines():
        tests = ""
        for name in re.findall("`([^`]*)`", row.rpartition("|")[0].rpartition(" | ")[2]):
            if name.startswith("tests/"):
                path = root / name
                files = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
                tests += "".join(file.read_text(encoding="utf-8") for file in files)
            else:
                assert re.search(rf"def test_\w*{name}", tests), name
