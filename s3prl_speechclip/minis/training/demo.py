"""`make demo`: train a hybrid model on the default corpus, show what it retrieves and hears."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ...cli import benchmark, pretrain
from ...cli.common import run

logger = logging.getLogger(__name__)

NAME = "speechclip_hybrid"
LONGER = ",,".join(
    (
        "runner.total_steps=2000",
        "runner.eval_step=1000",
        "runner.save_step=500",
        "data.max_samples=48000",
    )
)
"""Four times the preset's steps, which a quarter of an hour has room for once the longest
recordings are cropped to 3 s."""


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    p = argparse.ArgumentParser(prog="demo", description=__doc__)
    p.add_argument("-o", "--override", default="", metavar="K=V", help="as of run_pretrain.py")
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run three commands as a user would; a finished run is not trained again."""
    args = parser().parse_args(argv)
    started = time.perf_counter()
    override = ",,".join(filter(None, (LONGER, args.override)))
    folder = pretrain.command(["-u", NAME, "-a", "-o", override])
    trained = time.perf_counter()
    result = benchmark.command(["retrieval", "-u", NAME, "-k", str(folder)])
    keywords = benchmark.command(["keywords", "-u", NAME, "-k", str(folder)])
    measured = time.perf_counter()
    logger.info("")
    logger.info(
        "corpus and training %.0f s, measuring %.0f s", trained - started, measured - trained
    )
    logger.info("%-12s %s", "experiment", folder)
    logger.info("%-12s %s/curves.png", "curves", folder)
    logger.info("%-12s tensorboard --logdir %s/tensorboard", "scalars", folder)
    logger.info("%-12s %s, %s", "results", result, keywords)
    logger.info("%-12s %s", "words heard", keywords.with_suffix(".html"))
    return result


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
