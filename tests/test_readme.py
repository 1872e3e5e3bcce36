"""What README and documentation say is so."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from small_corpus import write_files

from s3prl_speechclip.benchmarks.peers import runner, scores
from s3prl_speechclip.checkpoints import __main__ as checkpoints
from s3prl_speechclip.cli import benchmark, downstream, pretrain
from s3prl_speechclip.cli.readme import PAGES, blocks, place
from s3prl_speechclip.data import __main__ as data
from s3prl_speechclip.data.corpora import find_corpus
from s3prl_speechclip.downstream.task import find_task
from s3prl_speechclip.errors import SpeechClipError
from s3prl_speechclip.minis import __main__ as minis
from s3prl_speechclip.model.config import ENCODER, VARIANTS
from s3prl_speechclip.pretrain.config import resolve_config

ROOT = Path(__file__).resolve().parents[1]
# The commands of CONTRIBUTING.md are of what its recipes add; tests/test_recipes.py runs them.
DOCUMENTS = [
    Path("README.md"),
    *sorted(page.relative_to(ROOT) for page in (ROOT / "docs").glob("*.md")),
]


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
    write_files(*(tmp_path / name for name in ("one.wav", "two.wav", "dog.jpg")), seconds=1)
    python = code(root / "README.md", "python")
    convert = code(root / "docs" / "checkpoints.md", "sh").splitlines()[0].partition("#")[0]
    for arguments in (["-c", python], convert.split()[1:]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "native" / "model.safetensors").is_file()
        shutil.rmtree(tmp_path / "native")


def commands(page: Path) -> list[str]:
    """Return the commands of a page: those of its shell blocks, and those in its text."""
    text = page.read_text(encoding="utf-8")
    found = [
        line.strip()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = re.findall(r"`((?:python|make|pip|torchrun|pytest|sbatch) [^`]+)`", prose)
    return found + [" ".join(span.split()) for span in spans]


def check_pretraining(arguments: list[str]) -> None:
    """Check options, names and configuration keys."""
    args = pretrain.parser().parse_args(arguments)
    if args.data is not None and args.data != "my_data":
        find_corpus(args.data)
    resolve_config(
        args.upstream or "speechclip_hybrid", args.upstream_config or "mini", args.override or ""
    )


def check_downstream(arguments: list[str]) -> None:
    """Check options and names."""
    find_task(vars(downstream.parser().parse_args(arguments))["task"])


def check_benchmark(arguments: list[str]) -> None:
    """Check options and names."""
    args = benchmark.parser(arguments[0]).parse_args(arguments)
    if upstream := getattr(args, "upstream", None):
        assert upstream in {*VARIANTS, ENCODER}


CHECKS: dict[str, Callable[[list[str]], object]] = {
    "run_pretrain.py": check_pretraining,
    "run_downstream.py": check_downstream,
    "probe_mine.py": check_downstream,  # the reader's own script, with the same options
    "run_benchmark.py": check_benchmark,
    "s3prl_speechclip.data": data.parser().parse_args,
    "s3prl_speechclip.checkpoints": checkpoints.parser().parse_args,
    "s3prl_speechclip.minis": minis.parser().parse_args,
    "s3prl_speechclip.benchmarks.peers.runner": runner.parser().parse_args,
    "s3prl_speechclip.benchmarks.peers.scores": scores.parser().parse_args,
}
"""Parsers of commands' arguments, by program."""
LAUNCHERS = re.compile(r"(?:srun |torchrun (?:--\S+ \d+ )?)?(?:\S*python )?(?:-m )?")
SHELL = ("export ", "sbatch ", "source .venv/bin/activate")


@pytest.mark.parametrize("page", DOCUMENTS, ids=str)
def test_every_command_of_the_documentation_is_one(
    page: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against an option, a name, a key or a target that was renamed after it was written."""
    monkeypatch.chdir(root)
    targets = re.findall(r"^(\w[\w-]*):", (root / "Makefile").read_text(encoding="utf-8"), re.M)
    extras = metadata.metadata("s3prl_speechclip").get_all("Provides-Extra") or []
    for command in commands(root / page):
        words = shlex.split(LAUNCHERS.sub("", command, count=1), comments=True)
        program, arguments = words[0], [word for word in words[1:] if word not in ("...", "NAME")]
        if program in CHECKS:
            try:
                CHECKS[program](arguments)
            except SystemExit as end:
                assert end.code == 0, command
            except SpeechClipError as error:
                pytest.fail(f"{command}: {error}")
        elif program == "make":
            names = [word for word in arguments if "=" not in word]
            assert set(names) <= set(targets), command
        elif program == "pip":
            named = re.findall(r"\[(.+)\]", command)
            assert {name for group in named for name in group.split(",")} <= set(extras), command
        elif program == "pytest":
            assert all((root / word).exists() for word in arguments if "/" in word), command
        else:
            assert command.startswith(SHELL), f"{page}: nothing checks '{command}'"


@pytest.mark.parametrize(
    ("page", "command", "more"),
    [
        ("checkpoints", "python -m s3prl_speechclip.checkpoints list", ()),
        ("benchmarks", "python run_benchmark.py leaderboard", ("--results", "benchmarks/results")),
    ],
)
def test_commands_that_need_no_corpus_run(
    page: str, command: str, more: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    """Guards the commands that end in seconds, as they are written."""
    written = [line.partition("#")[0].strip() for line in commands(root / f"docs/{page}.md")]
    assert command in written
    out = ("--out", str(tmp_path)) if more else ()
    done = subprocess.run(
        [sys.executable, *command.split()[1:], *more, *out], cwd=root, capture_output=True
    )
    assert done.returncode == 0 and done.stdout


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
