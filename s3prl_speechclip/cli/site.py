"""`make site`: the leaderboard and the keyword pages of the shipped models, to look at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..encoders.shipped import ASSETS
from ..model.config import VARIANTS
from . import benchmark
from .common import run

SITE = Path("site")


def command(argv: Sequence[str] | None) -> Path:
    """Write the site's files; returns the leaderboard's page."""
    for name, variant in VARIANTS.items():
        if variant.keywords is not None:
            out = SITE / f"keywords-{name}.json"
            options = ["-u", name, "-k", str(ASSETS / name), "--keep-states", "--out", str(out)]
            benchmark.command(["keywords", *options])
    board = ["leaderboard", "--results", "benchmarks/results", "--out", str(SITE)]
    return benchmark.command(board).with_name("leaderboard.html")


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
