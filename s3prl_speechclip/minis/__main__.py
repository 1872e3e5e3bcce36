"""`python -m s3prl_speechclip.minis`: the demo, and everything that is made on mini sets."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..cli.common import require, run
from ..config import parse_device
from ..downstream.task import find_task
from ..downstream.upstream_names import check_upstream
from ..errors import ConfigError, unknown_name
from ..options import add_option
from ..results import read_result
from . import PLACES, SUPERB
from .training.report import (
    DEMO,
    DEMO_RESULTS,
    DEMO_TASKS,
    SUPERB_RESULTS,
    SYSTEMS,
    demo_table,
    read_demo,
    superb_table,
)

# What computes is imported by the commands, so that `--help` is fast.

logger = logging.getLogger(__name__)

DEMO_SETTINGS = (
    "runner.total_steps=1000",
    "runner.eval_step=0",
    "runner.save_step=250",
    "data.max_samples=48000",
)
"""Steps that a few minutes have room for once the longest recordings are cropped to 3 s. Recall is
measured at the end, on the test splits."""
BENCHMARKS = {
    "retrieval": "stamps",
    "keywords": "stamps",
    "words": "stamps",
    "transcribe": "stamps",
    "spotting": "stamps",
    "zerospeech": "zerospeech",
    "abx": "abx",
}
"""Benchmarks of the shipped models, and the folder of their results."""
PARTS = ("hubert", "clip", "models", "words", "tried", "frequency", "table", "results")
"""Steps of `make`, in order; what is done already is not done again."""
SEEDS = (0, 1, 2)
"""Seeds of the probes on SUPERB's mini sets."""


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    p = argparse.ArgumentParser(prog="python -m s3prl_speechclip.minis", description=__doc__)
    commands = p.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="show what the shipped hybrid model can do, train one, and compare them"
    )
    demo.set_defaults(command=_demo)
    add_option(demo, "-o --override K=V", "as of run_pretrain.py", default="")

    make = commands.add_parser(
        "make", help="train the mini encoders and the models on them, ship and measure them"
    )
    make.set_defaults(command=_make)
    make.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")

    superb = commands.add_parser(
        "superb", help="run SUPERB's tasks on their mini sets, for two models and two baselines"
    )
    superb.set_defaults(command=_superb)
    short = ", ".join(find_task(name).short for name in SUPERB)
    add_option(superb, "-d TASK", f"some of {short}", dest="tasks", nargs="+", default=SUPERB)
    add_option(superb, "-u NAME", "upstreams", dest="systems", nargs="+", default=SYSTEMS)
    add_option(
        superb, "--seeds N", "seeds of weights, batches and dropout", nargs="+", default=SEEDS
    )
    add_option(superb, "--out DIR", "folder of the results", type=Path, default=SUPERB_RESULTS)
    for command in (make, superb):
        text = "auto, cpu, cuda or cuda:N (default: auto)"
        command.add_argument("--device", type=parse_device, default="auto", help=text)
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run one of the commands; return what it made."""
    args = parser().parse_args(argv)
    require("minis")
    made: Path | None = args.command(args)
    return made


def _demo(args: argparse.Namespace) -> Path:
    """Measure the shipped model, train one, and compare them; each command is a user's own."""
    from ..checkpoints.locate import RESULTS, shipped_model
    from ..cli import benchmark, pretrain
    from ..data.cache import cache_home
    from ..data.corpora import load_corpus
    from ..pretrain.config import resolve_config

    started = time.perf_counter()
    override = ",,".join(filter(None, (*DEMO_SETTINGS, args.override)))
    resolve_config(DEMO, overrides=override)  # a mistake in it ends here

    def announce(stage: int, what: str, minutes: str, place: Path) -> None:
        logger.info(
            "\n[%d/4, after %.0f s] %s\n      about %s on two cores that are free; output: %s",
            stage,
            time.perf_counter() - started,
            what,
            minutes,
            place,
        )

    def measure(checkpoint: Path, folder: Path) -> None:
        for task in DEMO_TASKS:
            kept = ["--keep-states", "--out", str(folder / f"{task}.json")]
            plot = ["--plot", "0"] if task == "keywords" else []
            benchmark.command([task, "-u", DEMO, "-k", str(checkpoint), *kept, *plot])

    shipped, trained = DEMO_RESULTS / "shipped", DEMO_RESULTS / "trained"
    announce(
        1,
        "building the default corpus, stamps: pictures, described by people in 13 languages and "
        "by synthetic voices",
        "a minute",
        cache_home() / PLACES["stamps"],
    )
    load_corpus("stamps")
    announce(2, f"what the shipped {DEMO} makes of its test recordings", "a minute", shipped)
    measure(shipped_model(DEMO), shipped)
    logger.info("look at it: %s", shipped / "keywords.html")
    announce(
        3,
        f"training a {DEMO} of your own on the stamps",
        "3 minutes",
        RESULTS / DEMO,
    )
    folder = pretrain.command(["-u", DEMO, "-a", "-o", override])
    assert folder is not None  # one process
    announce(4, "measuring it as the shipped one was", "half a minute", trained)
    measure(folder, trained)
    table = demo_table(read_demo(trained), read_demo(shipped))
    sys.stdout.write(f"\n{table}\n")
    logger.info("done after %.0f s", time.perf_counter() - started)
    logger.info("experiment   %s", folder)
    logger.info("curves       %s/curves.png", folder)
    logger.info("scalars      tensorboard --logdir %s/tensorboard", folder)
    logger.info("results      %s; of the shipped model %s", trained, shipped)
    logger.info("keywords     %s", trained / "keywords.html")
    path = DEMO_RESULTS / "table.md"
    path.write_text(table, encoding="utf-8")
    return path


def _make(args: argparse.Namespace) -> Path:
    for part in args.parts:
        if part not in PARTS:
            raise ConfigError(unknown_name("part", part, PARTS))
    from .training import recipe

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
    from .training.recipe import ASSETS, RESULTS, is_result_of, probe_encoder

    for encoder in ("hubert", "clip"):
        probe_encoder(ASSETS / encoder)
    for name, variant in VARIANTS.items():
        located = Located((ASSETS / name).as_posix(), "shipped")
        for task, folder in BENCHMARKS.items():
            path = RESULTS.parent / folder / f"{task}-{name}.json"
            of_keywords = task in ("keywords", "words", "transcribe")
            if is_result_of(path, located) or (of_keywords and variant.keywords is None):
                continue
            options = ["-u", name, "-k", located.source, "--device", device, "--out", str(path)]
            stored = ("retrieval", "keywords", "words", "transcribe", "spotting")
            keep = ["--keep-states"] if task in stored else []
            benchmark.command([task, *options, *keep])
    bare = Located((ASSETS / "speechclip_hybrid").as_posix(), "shipped")
    for task in ("zerospeech", "abx"):
        path = RESULTS.parent / task / f"{task}-speechclip_encoder.json"
        if not is_result_of(path, bare):
            benchmark.command(
                [task, "-u", "speechclip_encoder", "-k", bare.source, "--out", str(path)]
            )
        path = RESULTS.parent / task / f"{task}-log_mel.json"
        if not path.is_file():  # without weights, it does not change with the models
            benchmark.command([task, "-u", "log_mel", "--out", str(path)])
    benchmark.command(["leaderboard", "--results", str(RESULTS.parent)])


def _superb(args: argparse.Namespace) -> Path:
    names = [find_task(name).name for name in args.tasks]
    if set(names) - set(SUPERB):
        raise ConfigError(f"mini sets are for {', '.join(SUPERB)}; found {', '.join(names)}")
    for system in args.systems:
        check_upstream(system, None)
    from .training.superb import run_superb

    stopped = run_superb(args.systems, names, args.seeds, args.out, device=args.device)
    if stopped:
        logger.info("stopped; the same command resumes it")
        return stopped
    text = superb_table([read_result(path) for path in sorted(args.out.glob("*.json"))])
    sys.stdout.write(text)
    table: Path = args.out / "table.md"
    table.write_text(text, encoding="utf-8")
    return table


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
