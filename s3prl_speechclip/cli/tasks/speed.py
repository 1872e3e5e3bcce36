"""`run_benchmark.py speed`: how fast a model trains and encodes on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...benchmarks.speed import evaluate_speed
from ...structures import TaskResult
from ..tables import markdown_table
from .common import (
    Task,
    add_corpus_options,
    add_model_options,
    add_out_option,
    load_manifest,
    load_model,
    store,
)


def _add_options(p: argparse.ArgumentParser) -> None:
    add_model_options(p)
    add_corpus_options(p)
    p.add_argument("--repetitions", type=int, default=10, metavar="N", help="timed, of each")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the recordings")
    add_out_option(p)


def _run(args: argparse.Namespace) -> Path:
    model, located = load_model(args)
    result = evaluate_speed(
        model,
        located,
        load_manifest(args),
        batch_size=args.batch_size,
        repetitions=args.repetitions,
        seed=args.seed,
    )
    sys.stdout.write(speed_table(result) + "\n")
    return store(result, args.out)


def speed_table(result: TaskResult) -> str:
    """Lay a result out as a Markdown table."""
    rows: list[tuple[str, ...]] = [
        (what, name.replace("_", " "), f"{value:g}")
        for what, found in result.metrics.items()
        for name, value in found.items()
    ]
    about = result.protocol
    title = (
        f"{result.system} ({result.size}), {about['batch_size']} recordings at once, "
        f"{about['device']}, {about['threads']} thread(s)"
    )
    return "\n".join([title, "", markdown_table(("what", "figure", "value"), rows)])


TASK = Task("how fast a model trains and encodes on this machine", _add_options, _run)
