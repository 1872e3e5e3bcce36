"""`run_benchmark.py`: measure a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .common import run
from .tasks import TASKS


def parser() -> argparse.ArgumentParser:
    """Describe the tasks and their options."""
    p = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Measure a trained model. 'run_benchmark.py TASK --help' has a task's options.",
    )
    tasks = p.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, task in TASKS.items():
        task.add_options(tasks.add_parser(name, help=task.help, description=task.help))
    return p


def command(argv: Sequence[str] | None) -> Path:
    """Run the command line; gives the file that was made."""
    args = parser().parse_args(argv)
    return TASKS[args.task].run(args)


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
