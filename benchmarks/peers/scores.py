"""Scores of s3prl's own runner and of this project's, on the mini sets, three seeds each.

`python -m s3prl_speechclip.benchmarks.peers.scores PYTHON` runs what its file lacks, with
the Python that `runner.py` prints. Upstream, sets, configurations and schedules are the same; the
seeds are each runner's own. Scores are those after the last step.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from s3prl_speechclip.errors import SpeechClipError
from s3prl_speechclip.results import markdown_table, read_result

from .runner import run_s3prl, write_mini_hubert

SCORES = Path("benchmarks") / "results" / "speed" / "s3prl-scores.csv"
TASKS = ("fluent_commands", "speech_commands")
OWN: Mapping[str, str] = {
    "s3prl_speechclip": "fp32",
    "s3prl_speechclip, bf16": "bf16",
}
"""Precision of the encoder in this project's runner."""
RUNNERS = ("s3prl", *OWN)
SEEDS = (0, 1, 2)
STEPS = {"total_steps": 250, "eval_step": 250, "save_step": 250}
LINE = re.compile(r"^(dev|test) at step \d+: (\S+)", re.MULTILINE)
CERTAIN = 2.0  # standard errors
COLUMNS: Mapping[str, Callable[[str], Any]] = {
    **{"task": str, "runner": str, "seed": int, "steps": int},
    **{"dev": float, "test": float},
}


def measure(runner: str, task: str, seed: int, python: str, folder: Path) -> dict[str, Any]:
    """Run a task once; returns the accuracies.

    Args:
        runner: one of `RUNNERS`.
        task: one of `TASKS`.
        seed: the runner's.
        python: of s3prl's environment.
        folder: of scratch.
    """
    from .comparisons import cache_without_features, run_downstream

    hubert = write_mini_hubert(folder / "hubert")
    if runner == "s3prl":
        run_s3prl(python, task, hubert, folder / "s3prl", STEPS, seed)
        log = (folder / "s3prl" / "run" / "log.log").read_text(encoding="utf-8")
        scores = {split: float(value) for split, value in LINE.findall(log)}
    else:
        options = ["-k", str(hubert), "--seed", str(seed)]
        settings = {**STEPS, "encoder_precision": OWN[runner]}
        options += ["-o", ",,".join(f"runner.{key}={value}" for key, value in settings.items())]
        cache = cache_without_features(folder / "cache")
        run_downstream(task, "hf_hubert_custom", folder / "own", cache, *options)
        result = read_result(folder / "own" / "run" / "result.json")
        scores = {split: result.metrics[split]["acc"] for split in ("dev", "test")}
    return {"task": task, "runner": runner, "seed": seed, "steps": STEPS["total_steps"], **scores}


def scores_table(runs: Sequence[dict[str, Any]]) -> str:
    """Lay runs out, a task and runner a row: test accuracies in percent, and how they differ.

    A runner is compared with s3prl's where both have several seeds.
    """
    rows = []
    for task in TASKS:
        for runner in RUNNERS:
            found, theirs = (
                [100 * run["test"] for run in runs if (run["task"], run["runner"]) == (task, name)]
                for name in (runner, RUNNERS[0])
            )
            if min(len(found), len(theirs)) < 2:
                continue  # not measured yet
            difference = fmean(found) - fmean(theirs)
            error = math.sqrt(sum(stdev(each) ** 2 / len(each) for each in (found, theirs)))
            within = "yes" if abs(difference) <= CERTAIN * error else "no"
            compared = (
                ("", "") if runner == RUNNERS[0] else (f"{difference:+.1f} ± {error:.1f}", within)
            )
            seeds = ", ".join(f"{value:.1f}" for value in found)
            rows.append((task, runner, seeds, f"{fmean(found):.1f}", *compared))
    head = ("task", "runner", "seeds", "mean", "difference", "within two standard errors")
    return markdown_table(head, rows)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the options."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("python", metavar="PYTHON", help="Python of s3prl's environment")
    p.add_argument("--task", choices=TASKS, action="append", help="default: both")
    p.add_argument("--runner", choices=RUNNERS, action="append", help="default: both")
    p.add_argument("--seed", type=int, action="append", metavar="N", help="default: 0, 1, 2")
    p.add_argument("--out", type=Path, default=SCORES, metavar="FILE", help="default: %(default)s")
    return p


def main() -> None:
    """Run what is missing of what the options name; each run is kept once it ended."""
    args = parser().parse_args()
    for task in args.task or TASKS:
        for seed in args.seed or SEEDS:
            for runner in args.runner or RUNNERS:
                runs = read_runs(args.out)
                if any((r["task"], r["runner"], r["seed"]) == (task, runner, seed) for r in runs):
                    continue
                with tempfile.TemporaryDirectory(prefix="scores-") as scratch:
                    run = measure(runner, task, seed, args.python, Path(scratch))
                runs = sorted([*runs, run], key=lambda r: (r["task"], r["runner"], r["seed"]))
                with args.out.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, run, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(runs)
    sys.stdout.write(f"{scores_table(read_runs(args.out))}\n{args.out}\n")


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Read the runs of a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: kind(row[name]) for name, kind in COLUMNS.items()}
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    try:
        main()
    except SpeechClipError as failure:
        parser().error(str(failure))
