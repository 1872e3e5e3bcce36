"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the checkout.

Guards "one place to add": a recipe whose files no longer suffice fails here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_corpus import write_flickr8k
from superb_folders import write_fluent_commands

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "s3prl_speechclip"
MAPPED = ("upstream", "benchmarks", "downstream_configs")  # folders that install inside the package
BLOCK = re.compile(r"^(?:(?P<lead>[^\n]*):\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


def blocks(recipe: str) -> list[re.Match[str]]:
    """Return the code blocks below a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"## {recipe}\n")[1].split("\n## ")[0]
    return list(BLOCK.finditer(section))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code as a wheel lays it out; assets and published figures are links."""
    copy = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns("__pycache__", "assets", "results", "published")
    for folder in (PACKAGE, *MAPPED):
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    for folder in MAPPED:
        (copy / PACKAGE / folder).symlink_to(copy / folder)
    (copy / PACKAGE / "assets").symlink_to(ROOT / PACKAGE / "assets")
    (copy / "benchmarks" / "published").symlink_to(ROOT / "benchmarks" / "published")
    for script in ROOT.glob("run_*.py"):
        shutil.copy(script, copy)
    return copy


def run(checkout: Path, *arguments: str) -> str:
    """Run Python in the copy; returns its standard output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def follow(recipe: str, checkout: Path, data: Path) -> None:
    """Write the files of a recipe, insert its rows and run its commands."""
    for block in blocks(recipe):
        lead, text = block["lead"] or "", block["text"]
        if block["kind"] == "sh":
            for command in text.replace("\\\n", " ").strip().splitlines():
                words = shlex.split(command.replace("/data", str(data)))
                assert words[0] == "python"
                run(checkout, *words[1:])
            continue
        target = checkout / re.findall(r"`([^`]+)`", lead)[-1]
        if lead.startswith("One row"):
            table, after = target.read_text(encoding="utf-8"), text.splitlines()
            row = "\n".join(after)
            last = list(re.finditer(r"^        Variant\(.*\),\n", table, re.M))[-1].end()
            target.write_text(table[:last] + row + "\n" + table[last:], encoding="utf-8")
        else:
            assert not target.exists()
            target.write_text(text, encoding="utf-8")


def spoken_colours(root: Path) -> Path:
    """Write a few pictures and recordings as the recipe's corpus lays them out."""
    write_flickr8k(root)
    rows = []
    for split in ("train", "dev", "test"):
        for image in (root / f"Flickr_8k.{split}Images.txt").read_text().split():
            stem = image.removesuffix(".jpg")
            rows += [
                f"{split}\tImages/{image}\tflickr_audio/wavs/{stem}_{k}.wav\tA colour"
                for k in range(5)
            ]
    (root / "captions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_a_corpus_is_one_file(checkout: Path, tmp_path: Path) -> None:
    spoken_colours(tmp_path / "data" / "spoken_colours")
    follow("Add a corpus", checkout, tmp_path / "data")
    result = json.loads((checkout / "result" / "colours.json").read_text(encoding="utf-8"))
    assert result["corpus"] == "spoken_colours"
    assert "spoken_colours" in run(checkout, "run_pretrain.py", "--help")


def test_a_downstream_task_is_one_file_and_one_yaml(checkout: Path, tmp_path: Path) -> None:
    write_fluent_commands(tmp_path / "data" / "room_commands")
    follow("Add a downstream task", checkout, tmp_path / "data")
    board = (checkout / "result" / "board" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert re.search(r"\|\s*RC\b", board), board
    assert "room_commands" in run(checkout, "run_downstream.py", "--help")


def test_a_branch_is_one_file_and_one_row(checkout: Path, tmp_path: Path) -> None:
    write_flickr8k(tmp_path / "data" / "flickr8k")
    follow("Add a branch", checkout, tmp_path / "data")
    result = json.loads((checkout / "result" / "mean.json").read_text(encoding="utf-8"))
    assert result["system"] == "speechclip_mean"
    code = "import s3prl_speechclip; from s3prl import hub; print(hub.speechclip_mean)"
    assert "speechclip_mean" in run(checkout, "-c", code)


def test_a_benchmark_is_one_file(checkout: Path, tmp_path: Path) -> None:
    write_flickr8k(tmp_path / "data" / "flickr8k")
    follow("Add a benchmark", checkout, tmp_path / "data")
    board = (checkout / "result" / "board" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "Similarity of pairs" in board
    assert "similarity" in run(checkout, "run_benchmark.py", "--help")
