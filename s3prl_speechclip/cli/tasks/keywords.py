"""`run_benchmark.py keywords`: do keywords name what is said, and when?"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from ...benchmarks.embedding_plots import plot_keywords
from ...benchmarks.keyword_page import RECORDINGS, write_page
from ...benchmarks.keywords import report_keywords
from ..tables import keyword_table
from .common import (
    Task,
    add_corpus_options,
    add_model_options,
    add_out_option,
    add_states_option,
    add_worker_option,
    kept_states,
    load_manifest,
    load_model,
    result_path,
    store,
)

logger = logging.getLogger(__name__)

PLOTTED = 500  # recordings of each split


def _add_options(p: argparse.ArgumentParser) -> None:
    add_model_options(p)
    add_worker_option(p)
    add_states_option(p)
    add_corpus_options(p)
    add_out_option(p)
    p.add_argument(
        "--page",
        type=int,
        default=RECORDINGS,
        metavar="N",
        help="recordings of each split on the page beside the result, NAME.html; 0: no "
        "page (default: %(default)s)",
    )
    p.add_argument(
        "--plot",
        type=int,
        default=PLOTTED,
        metavar="N",
        help="recordings of each split whose keywords are drawn among CLIP's tokens, "
        "NAME.png; 0: no plot (default: %(default)s)",
    )


def _run(args: argparse.Namespace) -> Path:
    model, located = load_model(args)
    manifest = load_manifest(args)
    report = report_keywords(
        model,
        located,
        manifest,
        batch_size=args.batch_size,
        skip_broken=args.skip_broken,
        workers=args.num_workers,
        features=kept_states(args, model, manifest),
        vectors=args.plot,
    )
    result = report.result
    path = result_path(result, args.out)
    if args.plot > 0:
        picture = path.with_suffix(".png")
        placed = plot_keywords(model, report.heard, picture)
        metrics = {
            split: {**found, "embeddings": placed[split]} for split, found in result.metrics.items()
        }
        result = replace(result, metrics=metrics)
        logger.info("plot: %s", picture)
    sys.stdout.write(keyword_table(report.result) + "\n")
    if args.page > 0:
        page = path.with_suffix(".html")
        write_page(report.result, report.heard, report.neighbours, manifest, page, args.page)
        logger.info("page: %s", page)
    return store(result, args.out)


TASK = Task("do keywords name what is said, and when?", _add_options, _run)
