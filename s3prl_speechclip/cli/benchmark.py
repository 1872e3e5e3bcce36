"""`run_benchmark.py`: measure a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmarks.shared.benchmark import benchmark_titles, load_benchmark, run_command
from .common import require, run


def parser(task: str | None = None) -> argparse.ArgumentParser:
    """Describe the benchmarks, and the options of the one that is run."""
    p = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Measure a trained model. 'run_benchmark.py TASK --help' has a task's options.",
    )
    tasks = p.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, title in benchmark_titles().items():
        options = tasks.add_parser(name, help=title, description=title)
        if name == task:
            load_benchmark(name).add_options(options)
    return p


def command(argv: Sequence[str] | None) -> Path:
    """Run the command line; returns the file that was made."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser(words[0] if words else None).parse_args(words)
    benchmark = load_benchmark(args.task)
    require(benchmark.extra)
    return run_command(benchmark, args)


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
