"""`python -m s3prl_speechclip.minis`: the demo, and everything that is made on mini sets."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..cli.common import run
from ..downstream.task import find_task
from ..errors import ConfigError
from ..results import read_result
from . import SUPERB
from .training.report import DEMO, SUPERB_RESULTS, SYSTEMS, superb_table

# What computes is imported by the commands, so that `--help` is fast.

logger = logging.getLogger(__name__)

DEMO_SETTINGS = (
    "runner.total_steps=2000",
    "runner.eval_step=1000",
    "runner.save_step=500",
    "data.max_samples=48000",
)
"""Four times the preset's steps, which a quarter of an hour has room for once the longest
recordings are cropped to 3 s."""
BENCHMARKS: Mapping[str, str] = {
    "retrieval": "stamps",
    "keywords": "stamps",
    "words": "stamps",
    "zerospeech": "zerospeech",
}
"""Benchmarks of the shipped models, and the folder of their results."""
PARTS = ("hubert", "clip", "models", "table", "results")
"""Steps of `make`, in order; what is done already is not done again."""


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    p = argparse.ArgumentParser(prog="python -m s3prl_speechclip.minis", description=__doc__)
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add_device(command: argparse.ArgumentParser) -> None:
        text = "auto, cpu, cuda or cuda:N"
        command.add_argument("--device", default="auto", metavar="DEVICE", help=text)

    demo = commands.add_parser(
        "demo", help="train a hybrid model on the default corpus and show its retrieval"
    )
    demo.add_argument("-o", "--override", default="", metavar="K=V", help="as of run_pretrain.py")

    make = commands.add_parser(
        "make", help="train the mini encoders and the models on them, ship and measure them"
    )
    make.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    add_device(make)

    commands.add_parser("table", help="write the table of all models from their results")

    superb = commands.add_parser(
        "superb", help="run SUPERB's tasks on their mini sets, for two models and two baselines"
    )
    superb.add_argument(
        "-d",
        "--tasks",
        nargs="+",
        default=SUPERB,
        metavar="TASK",
        help=f"some of {', '.join(find_task(name).short for name in SUPERB)} (default: all)",
    )
    superb.add_argument(
        "-u",
        "--systems",
        nargs="+",
        default=SYSTEMS,
        metavar="NAME",
        help="upstreams (default: %(default)s)",
    )
    superb.add_argument(
        "-o", "--override", default="", metavar="K=V", help="as of run_downstream.py"
    )
    superb.add_argument("--archive", metavar="FILE", help="packages of the mini sets, without apt")
    superb.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    add_device(superb)
    superb.add_argument(
        "--out",
        type=Path,
        default=SUPERB_RESULTS,
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run one of the commands; return what it made."""
    args = parser().parse_args(argv)
    return COMMANDS[args.command](args)


def _demo(args: argparse.Namespace) -> Path | None:
    """Run three commands as a user would; a finished run is not trained again."""
    from ..cli import benchmark, pretrain

    started = time.perf_counter()
    override = ",,".join(filter(None, (*DEMO_SETTINGS, args.override)))
    folder = pretrain.command(["-u", DEMO, "-a", "-o", override])
    trained = time.perf_counter()
    result = benchmark.command(["retrieval", "-u", DEMO, "-k", str(folder)])
    keywords = benchmark.command(["keywords", "-u", DEMO, "-k", str(folder)])
    measured = time.perf_counter()
    logger.info("")
    logger.info(
        "corpus and training %.0f s, measuring %.0f s", trained - started, measured - trained
    )
    logger.info("%-12s %s", "experiment", folder)
    logger.info("%-12s %s/curves.png", "curves", folder)
    logger.info("%-12s tensorboard --logdir %s/tensorboard", "scalars", folder)
    logger.info("%-12s %s, %s", "results", result, keywords)
    logger.info("%-12s %s", "keywords", keywords.with_suffix(".html"))
    return result


def _make(args: argparse.Namespace) -> Path:
    from .training import recipe

    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        raise ConfigError(f"unknown part '{unknown[0]}'; there are {', '.join(PARTS)}")
    steps = {**recipe.PARTS, "results": _measure_shipped}
    for part in PARTS:
        if not args.parts or part in args.parts:
            steps[part](args.device)
    return recipe.RESULTS / recipe.TABLE


def _measure_shipped(device: str) -> None:
    """Measure the shipped models by all benchmarks, and gather the leaderboard."""
    from ..checkpoints.locate import Located
    from ..cli import benchmark
    from ..model.config import VARIANTS
    from .training.recipe import ASSETS, RESULTS, is_result_of

    for name, variant in VARIANTS.items():
        located = Located((ASSETS / name).as_posix(), "shipped")
        for task, folder in BENCHMARKS.items():
            path = RESULTS.parent / folder / f"{task}-{name}.json"
            of_keywords = task in ("keywords", "words")
            if is_result_of(path, located) or (of_keywords and variant.keywords is None):
                continue
            options = ["-u", name, "-k", located.source, "--device", device, "--out", str(path)]
            keep = ["--keep-states"] if task in ("retrieval", "keywords") else []
            benchmark.command([task, *options, *keep])
    benchmark.command(["leaderboard"])


def _table(args: argparse.Namespace) -> Path:
    from .training import recipe

    recipe.make_table(device="auto")
    return recipe.RESULTS / recipe.TABLE


def _superb(args: argparse.Namespace) -> Path:
    from .training.superb import run_superb

    names = [find_task(name).name for name in args.tasks]
    if set(names) - set(SUPERB):
        raise ConfigError(f"mini sets are for {', '.join(SUPERB)}; found {', '.join(names)}")
    stopped = run_superb(
        args.systems,
        names,
        args.out,
        override=args.override,
        archive=args.archive,
        seed=args.seed,
        device=args.device,
    )
    if stopped:
        logger.info("stopped; the same command resumes it")
        return stopped
    text = superb_table([read_result(path) for path in sorted(args.out.glob("*.json"))])
    sys.stdout.write(text)
    table: Path = args.out / "table.md"
    table.write_text(text, encoding="utf-8")
    return table


COMMANDS: Mapping[str, Callable[[argparse.Namespace], Path | None]] = {
    "demo": _demo,
    "make": _make,
    "table": _table,
    "superb": _superb,
}

main = run(command)

if __name__ == "__main__":
    sys.exit(main())
