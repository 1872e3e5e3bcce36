"""`run_benchmark.py words`: what a model calls each spoken word."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...benchmarks.alignments import with_alignments
from ...benchmarks.words import evaluate_words
from ..tables import word_table
from .common import (
    Task,
    add_corpus_options,
    add_model_options,
    add_out_option,
    add_worker_option,
    load_manifest,
    load_model,
    store,
)


def _add_options(p: argparse.ArgumentParser) -> None:
    add_model_options(p)
    add_worker_option(p)
    add_corpus_options(p)
    add_out_option(p)
    p.add_argument(
        "--alignments",
        type=Path,
        metavar="FILE",
        help="JSON of word times as published for SpokenCOCO (default: those that the corpus has)",
    )


def _run(args: argparse.Namespace) -> Path:
    model, located = load_model(args)
    manifest = load_manifest(args)
    if args.alignments is not None:
        manifest = with_alignments(manifest, args.alignments)
    result = evaluate_words(
        model,
        located,
        manifest,
        batch_size=args.batch_size,
        skip_broken=args.skip_broken,
        workers=args.num_workers,
    )
    sys.stdout.write(word_table(result) + "\n")
    return store(result, args.out)


TASK = Task("what does a model call each spoken word?", _add_options, _run)
