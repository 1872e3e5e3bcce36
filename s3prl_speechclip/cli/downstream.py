"""`run_downstream.py`: train and evaluate s3prl's downstream tasks on an upstream."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..downstream.request import SWEEP, Request
from ..downstream.task import all_tasks, find_task
from ..options import add_option
from ..results import markdown_table, write_result
from ..structures import TaskResult
from .common import is_main_process, require, run

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"


def parser() -> argparse.ArgumentParser:
    """Build the parser; the options are declared by the fields of `Request`."""
    names = ", ".join(f"{task.name} ({task.short})" for task in all_tasks())
    p = argparse.ArgumentParser(
        prog="run_downstream.py",
        description="Train a downstream task of s3prl's on an upstream's features, pick the best "
        "checkpoint on dev, and test it once.",
        epilog="Several GPUs or nodes: torchrun --nproc-per-node N run_downstream.py ..., or srun.",
    )
    p.add_argument(
        "-m",
        "--mode",
        choices=("train", "evaluate"),
        default="train",
        help="train and test, or only test what was trained (default: %(default)s)",
    )
    for option in fields(Request):
        if option.metadata:
            form, text, settings = option.metadata.values()
            # A list that is not given is None, since `append` extends its default.
            default = None if option.default == () else option.default
            about = {**settings, "default": default, "dest": option.name}
            add_option(p, form, text.format(tasks=names), **about)
    add_option(
        p,
        "--out FILE",
        f"result file (default: {RESULT_FILE} in the experiment folder, result-SPLIT.json where "
        "only other splits were measured, NAME-other-corpus.json where another corpus was)",
        type=Path,
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; returns the result's file, or the folder of an interrupted run."""
    options = vars(parser().parse_args(argv))
    out, mode, sweep = options.pop("out"), options.pop("mode"), options.pop("sweep")
    options["splits"] = tuple(options["splits"] or ())
    options["sweep"] = () if sweep is None else tuple(sweep) or SWEEP
    request = Request(**options, evaluate=mode == "evaluate")
    require("superb")
    from ..downstream.plan import resolve

    plan = resolve(request)
    from ..downstream.run import run_plan  # late: neither --help nor a mistake needs torch

    outcome = run_plan(plan)
    if outcome.result is not None:
        sys.stdout.write(downstream_table([outcome.result]) + "\n")
        name = _file_name(outcome.result) + ("-other-corpus" if plan.moved else "")
        return write_result(outcome.result, out or outcome.folder / f"{name}.json")
    if is_main_process():
        other = "" if request.sweep else f", or with -e {outcome.folder}"
        logger.info("stopped; resume with the same command and -a%s", other)
        return outcome.folder
    return None


def _file_name(result: TaskResult) -> str:
    """Return a result file's name without suffix, another where the test split is missing."""
    if find_task(result.task).test in result.metrics:
        return Path(RESULT_FILE).stem
    return f"result-{'-'.join(result.metrics)}"


def downstream_table(results: Sequence[TaskResult]) -> str:
    """Format results as a Markdown table, one a row: scores on dev and test, and the time."""
    rows: list[tuple[str, ...]] = [
        (
            *(result.task, result.system, result.size, result.corpus),
            _shown(result, "dev"),
            _shown(result, "test"),
            f"{result.wall_time / 60:.1f}",
        )
        for result in results
    ]
    table = markdown_table(("task", "upstream", "size", "corpus", "dev", "test", "min"), rows)
    if any(result.mini for result in results):
        table += "\n\n[mini: not comparable with published figures]"
    return table


def _shown(result: TaskResult, kind: str) -> str:
    """Format the metrics that a task declares, of the splits of a kind."""
    names = [metric.key for metric in find_task(result.task).metrics]
    cells = []
    for split, scores in result.metrics.items():
        if not split.startswith(kind):
            continue
        chosen = names or [name for name in scores if "loss" not in name]
        cells += [f"{name} {scores[name]:.4f}" for name in chosen if name in scores]
    return ", ".join(cells) or "-"


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
