"""`run_benchmark.py retrieval`: recall between recordings and images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...benchmarks.retrieval import evaluate_retrieval
from ..tables import retrieval_table
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
    store,
)


def _add_options(p: argparse.ArgumentParser) -> None:
    add_model_options(p)
    add_worker_option(p)
    add_states_option(p)
    add_corpus_options(p)
    add_out_option(p)


def _run(args: argparse.Namespace) -> Path:
    model, located = load_model(args)
    manifest = load_manifest(args)
    result = evaluate_retrieval(
        model,
        located,
        manifest,
        batch_size=args.batch_size,
        skip_broken=args.skip_broken,
        workers=args.num_workers,
        features=kept_states(args, model, manifest),
    )
    sys.stdout.write(retrieval_table(result) + "\n")
    return store(result, args.out)


TASK = Task("recall between recordings and images", _add_options, _run)
