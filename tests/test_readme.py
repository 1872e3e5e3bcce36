"""What README and documentation say is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_speechclip.cli.readme import PAGES, blocks, place


def pages(root: Path) -> list[Path]:
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]


def code(path: Path, kind: str) -> str:
    """Return the first block of code of a kind."""
    found = re.search(rf"```{kind}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_are_the_committed_results(name: str, root: Path) -> None:
    """Guards against figures that no file holds."""
    found = place(name).search((root / PAGES[name]).read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == blocks(root)[name]


@pytest.mark.parametrize("case", ["hybrid_plus", "parallel"])
def test_the_released_checkpoints_are_used_as_written(
    case: str, root: Path, goldens: Path, tmp_path: Path
) -> None:
    """Guards what README and documentation do with released checkpoints, line by line."""
    shutil.copyfile(goldens / case / "official.ckpt", tmp_path / "official.ckpt")
    python = code(root / "README.md", "python")
    convert = code(root / "docs" / "checkpoints.md", "sh").splitlines()[0].partition("#")[0]
    for arguments in (["-c", python], convert.split()[1:]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "native" / "model.safetensors").is_file()
        shutil.rmtree(tmp_path / "native")


def test_every_link_leads_to_a_file(root: Path) -> None:
    """Guards against a page that was moved after it was linked."""
    for page in pages(root):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_of_the_documentation_has_an_option_that_exists(root: Path) -> None:
    """Guards against an option that was renamed after it was written down."""
    # CONTRIBUTING.md's commands are of what its recipes add; tests/test_recipes.py runs them.
    tested = (page for page in pages(root) if page.name != "CONTRIBUTING.md")
    text = "\n".join(page.read_text(encoding="utf-8") for page in tested)
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
