"""`run_downstream.py`: train and evaluate s3prl's downstream tasks on an upstream."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..downstream.request import DEFAULTS, RESULTS, SWEEP, Request
from ..downstream.task import all_tasks, find_task
from ..results import markdown_table, write_result
from ..structures import TaskResult
from .common import is_main_process, run

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"


def parser() -> argparse.ArgumentParser:
    """Describe the options; their letters are s3prl's, their names the fields of `Request`."""
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
    p.add_argument(
        "-u",
        "--upstream",
        metavar="NAME",
        help=f"any of s3prl's upstreams (default: {DEFAULTS['upstream']})",
    )
    p.add_argument(
        "-k",
        "--upstream_ckpt",
        dest="checkpoint",
        metavar="CKPT",
        help="its weights: experiment or checkpoint folder, official .ckpt, Hub id, mini "
        "(default: the newest pretraining run of that name, else the mini model)",
    )
    p.add_argument(
        "-g",
        "--upstream_model_config",
        dest="upstream_config",
        metavar="FILE",
        help="its own configuration",
    )
    p.add_argument(
        "-d",
        "--downstream",
        dest="task",
        metavar="TASK",
        help=f"{names}, or another of s3prl's with -c (default: {DEFAULTS['task']})",
    )
    p.add_argument(
        "-v",
        "--downstream_variant",
        dest="variant",
        metavar="NAME",
        help="such as fold2 of emotion",
    )
    p.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        help="configuration of the task (default: SUPERB's)",
    )
    p.add_argument(
        "-o",
        "--override",
        metavar="K=V",
        default="",
        help="changes, such as runner.total_steps=50,,optimizer.lr=1e-3",
    )
    p.add_argument(
        "-n",
        "--expname",
        dest="name",
        metavar="NAME",
        help="experiment name (default: <upstream>-<task>)",
    )
    p.add_argument(
        "-p",
        "--expdir",
        dest="folder",
        metavar="DIR",
        type=Path,
        help=f"experiment folder (default: {RESULTS}/<name>)",
    )
    p.add_argument(
        "-e",
        "--past_exp",
        dest="past",
        metavar="PATH",
        type=Path,
        help="experiment folder or checkpoint to resume from or to evaluate",
    )
    p.add_argument(
        "-a",
        "--auto_resume",
        action="store_true",
        help="resume from the newest checkpoint of the experiment folder; start if it is empty",
    )
    p.add_argument(
        "-t",
        "--evaluate_split",
        dest="splits",
        metavar="SPLIT",
        action="append",
        default=[],
        help="split of -m evaluate; may be given again (default: the task's test splits)",
    )
    p.add_argument(
        "-f",
        "--upstream_trainable",
        dest="trainable",
        action="store_true",
        default=None,
        help="fine-tune the upstream too",
    )
    p.add_argument(
        "-s",
        "--upstream_feature_selection",
        dest="selection",
        metavar="NAME",
        help=f"entry of the upstream's output (default: {DEFAULTS['selection']}, weighted)",
    )
    p.add_argument(
        "-l",
        "--upstream_layer_selection",
        dest="layer",
        metavar="N",
        type=int,
        help="one state of those, from 0",
    )
    p.add_argument(
        "--upstream_feature_normalize",
        dest="normalize",
        action="store_true",
        default=None,
        help="layer-normalise states before they are weighted",
    )
    p.add_argument(
        "--data-root", metavar="DIR", help="folder of the corpus (default: the mini set)"
    )
    p.add_argument("--archive", metavar="FILE", help="packages of the mini set, without apt")
    p.add_argument(
        "--lr-sweep",
        dest="sweep",
        metavar="LR",
        type=float,
        nargs="*",
        help="choose the learning rate on dev (without a list: "
        f"{' '.join(f'{rate:g}' for rate in SWEEP)})",
    )
    p.add_argument(
        "--seed", type=int, metavar="N", help=f"of everything random (default: {DEFAULTS['seed']})"
    )
    p.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"result file (default: {RESULT_FILE} in the experiment folder, or result-SPLIT.json "
        "where only other splits were measured)",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; returns the result's file, or the folder of an interrupted run."""
    options = vars(parser().parse_args(argv))
    out, mode, sweep = options.pop("out"), options.pop("mode"), options.pop("sweep")
    options["splits"] = tuple(options["splits"])
    options["sweep"] = () if sweep is None else tuple(sweep) or SWEEP
    request = Request(**options, evaluate=mode == "evaluate")
    from ..downstream.run import run as run_downstream  # late: --help needs no torch

    outcome = run_downstream(request)
    if outcome.result is not None:
        sys.stdout.write(downstream_table([outcome.result]) + "\n")
        return write_result(outcome.result, out or outcome.folder / _file_name(outcome.result))
    if is_main_process():
        logger.info("stopped; resume with the same command and -a, or with -e %s", outcome.folder)
        return outcome.folder
    return None


def _file_name(result: TaskResult) -> str:
    """Return the name of a result's file, another where the task's own test split is missing."""
    if find_task(result.task).test in result.metrics:
        return RESULT_FILE
    return f"result-{'-'.join(result.metrics)}.json"


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
