"""`run_benchmark.py leaderboard`: results and published figures in tables."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ...benchmarks.leaderboard import gather, write_leaderboard
from .common import Task

logger = logging.getLogger(__name__)

COMMITTED = Path("benchmarks") / "results"


def _add_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[COMMITTED],
        metavar="DIR",
        help=f"folders of result files, read to the bottom (default: {COMMITTED})",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=COMMITTED,
        metavar="DIR",
        help="folder for LEADERBOARD.md and leaderboard.csv (default: %(default)s)",
    )
    p.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="the page (default: leaderboard.html in that folder)",
    )


def _run(args: argparse.Namespace) -> Path:
    table, sheet, page = write_leaderboard(gather(args.results, args.out), args.out, args.html)
    logger.info("figures: %s", sheet)
    logger.info("page: %s", page)
    return table


TASK = Task("results and published figures in tables", _add_options, _run)
