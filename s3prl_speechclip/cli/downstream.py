"""`run_downstream.py`: train and evaluate s3prl's downstream tasks on an upstream."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..downstream.config import TASKS
from ..downstream.request import DEFAULTS, Request
from ..downstream.run import SWEEP, Outcome
from ..downstream.run import run as run_downstream
from ..errors import ConfigError
from ..results import write_result
from ..structures import TaskResult
from .common import is_main_process, run
from .tables import markdown_table

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"
SHOWN: dict[str, tuple[str, ...]] = {"snips": ("slot_type_f1", "slot_value_cer")}
"""Metrics of a task in tables; without an entry, the task's own; then all but losses."""


def parser() -> argparse.ArgumentParser:
    """Describe the options; their letters are s3prl's."""
    names = ", ".join(f"{task.name} ({task.short})" for task in TASKS)
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
        metavar="CKPT",
        help="its weights: experiment or checkpoint folder, official .ckpt, Hub id "
        "(default: the newest pretraining run of that name, else the mini model)",
    )
    p.add_argument("-g", "--upstream_model_config", metavar="FILE", help="its own configuration")
    p.add_argument(
        "-d",
        "--downstream",
        metavar="TASK",
        help=f"{names}, or another of s3prl's with -c (default: {DEFAULTS['downstream']})",
    )
    p.add_argument("-v", "--downstream_variant", metavar="NAME", help="such as fold2 of emotion")
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
        "-n", "--expname", metavar="NAME", help="experiment name (default: <upstream>-<task>)"
    )
    p.add_argument(
        "-p",
        "--expdir",
        metavar="DIR",
        type=Path,
        help="experiment folder (default: result/downstream/<name>)",
    )
    p.add_argument(
        "-e",
        "--past_exp",
        metavar="PATH",
        type=Path,
        help="go on from, or evaluate, an experiment folder or a checkpoint",
    )
    p.add_argument(
        "-a",
        "--auto_resume",
        action="store_true",
        help="go on where the experiment folder stands; start if it is empty",
    )
    p.add_argument(
        "-t",
        "--evaluate_split",
        metavar="SPLIT",
        action="append",
        help="of -m evaluate; may be given again (default: the task's test splits)",
    )
    p.add_argument(
        "-f",
        "--upstream_trainable",
        action="store_true",
        default=None,
        help="fine-tune the upstream too",
    )
    p.add_argument(
        "-s",
        "--upstream_feature_selection",
        metavar="NAME",
        help="entry of the upstream's output (default: hidden_states, weighted)",
    )
    p.add_argument(
        "-l", "--upstream_layer_selection", metavar="N", type=int, help="one state of those, from 0"
    )
    p.add_argument(
        "--upstream_feature_normalize",
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
        help="result file (default: result.json in the experiment folder)",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run the command line; gives the result's file, or the folder of an interrupted run."""
    args = parser().parse_args(argv)
    outcome = run_downstream(_request(args))
    if outcome.finished and outcome.result is not None:
        sys.stdout.write(downstream_table([outcome.result]) + "\n")
        return write_result(outcome.result, args.out or outcome.folder / RESULT_FILE)
    if not outcome.finished and is_main_process():
        _say_how_to_go_on(outcome)
        return outcome.folder
    return None


def downstream_table(results: Sequence[TaskResult]) -> str:
    """Lay results out as a Markdown table, one a row: scores on dev and test, and the time."""
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
    """Show the scores that SUPERB reports, of the splits of a kind."""
    metric = result.protocol.get("metric")
    names = SHOWN.get(result.task) or ((metric,) if metric else ())
    cells = []
    for split, scores in result.metrics.items():
        if not split.startswith(kind):
            continue
        chosen = names or [name for name in scores if "loss" not in name]
        cells += [f"{name} {scores[name]:.4f}" for name in chosen if name in scores]
    return ", ".join(cells) or "-"


def _say_how_to_go_on(outcome: Outcome) -> None:
    logger.info("stopped; go on with the same command and -a, or with -e %s", outcome.folder)


def _request(args: argparse.Namespace) -> Request:
    if args.seed is not None and args.seed < 0:
        raise ConfigError(f"--seed must not be negative, found {args.seed}")
    sweep = tuple(args.lr_sweep or SWEEP) if args.lr_sweep is not None else ()
    if any(not rate > 0 for rate in sweep):
        raise ConfigError(f"--lr-sweep: learning rates are above 0, found {min(sweep)}")
    return Request(
        task=args.downstream,
        upstream=args.upstream,
        checkpoint=args.upstream_ckpt,
        upstream_config=args.upstream_model_config,
        selection=args.upstream_feature_selection,
        layer=args.upstream_layer_selection,
        normalize=args.upstream_feature_normalize,
        trainable=args.upstream_trainable,
        variant=args.downstream_variant,
        config=args.config,
        override=args.override,
        data_root=args.data_root,
        archive=args.archive,
        name=args.expname,
        folder=args.expdir,
        past=args.past_exp,
        auto_resume=args.auto_resume,
        evaluate=args.mode == "evaluate",
        splits=tuple(args.evaluate_split or ()),
        sweep=sweep,
        seed=args.seed,
        device=args.device,
    )


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
