"""Results and published figures in one table a benchmark, miniatures in their own.

All figures are one data frame, a figure a row; a table is what is left of it after filtering by
section, grouping by system and ranking.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.options import add_option

from ..shared.benchmark import Benchmark
from .sections import PAGE, SHEET, TABLE
from .superb import partial_superb_score, superb_score

logger = logging.getLogger(__name__)

__all__ = ["BENCHMARK", "partial_superb_score", "superb_score"]

OWN_RUNS = Path("result")


def add_options(p: ArgumentParser) -> None:
    """Add the options."""
    add_option(
        p,
        "--results DIR",
        f"folders of result files, read to the bottom (default: {OWN_RUNS}, your own runs)",
        type=Path,
        nargs="+",
        default=[OWN_RUNS],
    )
    add_option(
        p,
        "--out DIR",
        f"folder for {TABLE} and {SHEET} (default: the first folder of results)",
        type=Path,
    )
    add_option(p, "--html FILE", f"the page (default: {PAGE} in that folder)", type=Path)
    add_option(
        p,
        "--check FILE",
        "only check that a result file can stand on the leaderboard; names field and reason",
        type=Path,
    )


def run(args: Namespace) -> Path:
    """Write the leaderboard; returns its Markdown, or the result file that was checked."""
    from .figures import gather
    from .tables import write_leaderboard

    if args.check is not None:
        check(args.check)
        return args.check
    home = args.out or args.results[0]
    table, *others = write_leaderboard(gather(args.results, home), home, args.html)
    for path in others:
        logger.info("written: %s", path)
    return table


def check(path: Path) -> None:
    """Check that a result file can stand on the leaderboard.

    Raises:
        ResultError: it cannot; the message names the field and the reason.
    """
    from .figures import figures_of, read_record

    try:
        result = read_record(path)
        if result is None:
            raise ResultError("it is no result: expected an object with 'task' and 'metrics'")
        figures_of(result)
    except ResultError as error:
        raise ResultError(f"'{path}': {error}") from error


BENCHMARK = Benchmark(add_options=add_options, run=run, extra="superb")
