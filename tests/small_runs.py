"""Pretraining runs on a small corpus, as several tests start them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from small_corpus import SMALL

TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
)


def arguments(corpus: Path, folder: Path, steps: int, *more: str, overrides: str = "") -> list[str]:
    """Return the command line of a run that is evaluated at its end."""
    changes = f"{SMALL},,runner.total_steps={steps},,runner.eval_step={steps},,{overrides}"
    return [
        "-g",
        "mini_scratch",
        "--data",
        "flickr8k",
        "--data-root",
        str(corpus),
        "-p",
        str(folder),
        "-o",
        changes,
        *more,
    ]


def launch(*argv: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [*launcher, "-m", "s3prl_speechclip.cli.pretrain", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def start(
    *argv: str, launcher: tuple[str, ...] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    process = launch(*argv, launcher=launcher)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*argv: str) -> None:
    """Run the command line in this process."""
    from s3prl_speechclip.cli.pretrain import main

    assert main(list(argv)) == 0


def column(folder: Path, name: str) -> list[float]:
    """Return the values of a column of the log."""
    with (folder / "log.csv").open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def losses(folder: Path) -> list[float]:
    return column(folder, "loss")


def assert_same_weights(one: Path, other: Path) -> None:
    """Check that the last checkpoints of two runs are equal to the last bit."""
    expected, found = (load_file(folder / "last" / "model.safetensors") for folder in (one, other))
    assert expected.keys() == found.keys()
    different = [name for name in expected if not torch.equal(expected[name], found[name])]
    assert not different, different
