"""The core alone, and what is said where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from s3prl_speechclip.cli.common import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HIDE = """
import importlib.machinery, sys
HIDDEN = set({modules!r})
class Absent:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in HIDDEN:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Absent(finder) for finder in sys.meta_path]
"""

CORE = """
import torch
import s3prl_speechclip
from s3prl.nn import S3PRLUpstream
model = s3prl_speechclip.SpeechClip.from_pretrained({folder!r})
output = model.encode_speech([torch.randn(16_000)])
assert output.keywords is not None and len(model.encode_text(["a dog"])) == 1
states, lengths = S3PRLUpstream("speechclip_plus")(torch.randn(1, 16_000), torch.tensor([16_000]))
assert len(states) > 2
"""


def run(program: str, folder: Path, hidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(modules=hidden) + program],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_the_core_loads_encodes_and_registers(root: Path, tmp_path: Path) -> None:
    """Guards `pip install s3prl_speechclip` against an import of what only an extra brings."""
    hidden = tuple(m for modules in EXTRAS.values() for m in modules if m != "timm")
    folder = root / "s3prl_speechclip" / "assets" / "mini" / "speechclip_plus"
    done = run(CORE.format(folder=str(folder)), tmp_path, hidden)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "argv", "module", "extra"),
    [
        ("pretrain", ["-p", "run"], "lightning", "train"),
        ("downstream", ["-u", "fbank"], "lightning", "superb"),
        ("benchmark", ["retrieval"], "scipy", "train"),
        ("minis", ["demo"], "timm", "minis"),
        ("benchmark", ["leaderboard"], "pandas", "superb"),
        ("benchmark", ["transcribe"], "sacrebleu", "superb"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(
    command: str, argv: list[str], module: str, extra: str, tmp_path: Path
) -> None:
    """Guards against a traceback that leaves the user to find the package."""
    module_of = "minis.__main__" if command == "minis" else f"cli.{command}"
    program = f"from s3prl_speechclip.{module_of} import main; sys.exit(main({argv}))"
    done = run(program, tmp_path, (module,))
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"'{module}' is missing" in last and f"'s3prl_speechclip[{extra}]'" in last
    assert "Traceback" not in done.stderr


def test_mteb_that_is_missing_is_named_with_its_extra(tmp_path: Path) -> None:
    """Guards the one extra that no command needs."""
    done = run("import s3prl_speechclip.mteb", tmp_path, ("mteb",))
    assert "pip install 's3prl_speechclip[mteb]'" in done.stderr.splitlines()[-1]


def test_extras_are_those_of_the_package(root: Path) -> None:
    """Guards the message against an extra that does not bring the module."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    holders = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        names = {
            Requirement(text).name.lower().replace("_", "-")
            for text in project["optional-dependencies"][extra]
        }
        for module in modules:
            assert {name.lower().replace("_", "-") for name in holders[module]} & names, module
