"""The installed package: one top-level name, with its data, working far from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGE = "s3prl_speechclip"
FOLDERS = ("upstream", "benchmarks", "downstream_configs")
RESULTS = Path("benchmarks") / "results"  # stay in the checkout
SCRIPTS = ("pretrain", "downstream", "benchmark")
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", PACKAGE, *FOLDERS)
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")

# Runs in the fresh environment, from another folder.
PROGRAM = """
import sys, torch, s3prl_speechclip
from importlib import metadata, resources
from s3prl_speechclip.benchmarks.retrieval import recall_at_k
assert s3prl_speechclip.__file__.startswith(sys.prefix), s3prl_speechclip.__file__
assert recall_at_k(torch.eye(3), torch.eye(3), range(3), range(3))["mean"][1] == 100.0
assert (resources.files("s3prl_speechclip") / "py.typed").is_file()
print(metadata.version("s3prl_speechclip"))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_sources(root: Path, target: Path) -> None:
    for name in SOURCES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=NOT_SOURCES)
        else:
            shutil.copy2(source, target / name)


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a source archive of a copy, so that nothing left in the checkout helps."""
    copy = tmp_path_factory.mktemp("sources")
    copy_sources(root, copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, which sees the running one's other packages."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder.parent
    )
    # A folder named in a .pth file is searched, but the .pth files in it are not read: the
    # running environment's editable install stays out of sight.
    (Path(site.strip()) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("pip", "install", "--quiet", "--no-deps", "--offline", "--python", python, wheel)
    run(sys.executable, "-m", "uv", *install, cwd=folder.parent)
    return folder


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_installs_one_top_level_name(wheel: Path):
    """Guards users' environments against packages called `benchmarks` and `upstream`."""
    tops = {name.partition("/")[0] for name in names_in(wheel)}
    (info,) = tops - {PACKAGE}
    assert info == f"{PACKAGE}-{metadata.version(PACKAGE)}.dist-info"


def test_the_wheel_holds_every_source_and_data_file(wheel: Path, root: Path):
    """Guards against a data file whose ending setup.py does not know, and results in a wheel."""
    expected = set()
    for folder in (PACKAGE, *FOLDERS):
        for path in (root / folder).rglob("*"):
            inner = path.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in inner.parts)
            measured = inner.is_relative_to(RESULTS)
            if path.is_file() and not hidden and not measured:
                expected.add(inner.as_posix() if folder == PACKAGE else f"{PACKAGE}/{inner}")
    held = {name for name in names_in(wheel) if name.startswith(f"{PACKAGE}/")}
    assert held == expected


def test_the_wheel_works_when_installed_elsewhere(installed: Path):
    """Guards the mapping of folders to modules, without the checkout in reach."""
    version = run(installed / "bin" / "python", "-I", "-c", PROGRAM, cwd=installed)
    assert version.strip() == metadata.version(PACKAGE)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_console_scripts_start(installed: Path, script: str):
    help_text = run(installed / "bin" / f"s3prl-speechclip-{script}", "--help", cwd=installed)
    assert "usage:" in help_text.lower()


def test_the_editable_install_maps_the_folders(root: Path, tmp_path: Path):
    """Guards the checkout's own environment: found from another folder, and in the checkout."""
    program = f"import {PACKAGE}.benchmarks.retrieval as module; print(module.__file__)"
    for folder in (tmp_path, root):
        found = run(sys.executable, "-c", program, cwd=folder).strip()
        assert Path(found) == root / "benchmarks" / "retrieval.py"


def test_the_lock_pins_what_the_package_requires(root: Path):
    """Guards against a requirement that was changed without `make lock`."""
    pins: dict[str, list[Requirement]] = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            pin = Requirement(line)
            pins.setdefault(normal(pin.name), []).append(pin)
    for text in metadata.requires(PACKAGE) or ():
        wanted = Requirement(text)
        if wanted.name == PACKAGE or (wanted.marker and "docs" in str(wanted.marker)):
            continue  # extras of its own, and what builds the pages
        assert normal(wanted.name) in pins, f"{wanted.name} is not in requirements.lock"
        for pin in pins[normal(wanted.name)]:
            (exact,) = pin.specifier
            assert exact.operator == "==", str(pin)
            assert wanted.specifier.contains(exact.version), f"{pin} does not satisfy {wanted}"


def test_the_lock_names_no_source(root: Path):
    """Guards against an index or a folder of one machine, which others do not have."""
    text = (root / "requirements.lock").read_text()
    assert not [mark for mark in ("://", "--index", "--find-links", " @ ") if mark in text]


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
