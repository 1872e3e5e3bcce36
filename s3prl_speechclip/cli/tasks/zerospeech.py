"""`run_benchmark.py zerospeech`: do distances between spoken words follow their meanings?"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ...benchmarks.zerospeech import (
    Choice,
    FeatureSource,
    evaluate_zerospeech,
    model_source,
    spectral_source,
    write_submission,
)
from ...benchmarks.zerospeech_features import LOG_MEL
from ...benchmarks.zerospeech_submission import FORMATS
from ...errors import ConfigError, unknown_name
from ...minis.zerospeech import load_set
from ...model.config import VARIANTS
from ...runtime.devices import find_device
from ...structures import TaskResult
from ...upstream.speechclip.expert import ENCODER, UpstreamExpert
from ..tables import markdown_table
from .common import Task, add_out_option, store

logger = logging.getLogger(__name__)


def _add_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-u",
        "--upstream",
        metavar="NAME",
        default="speechclip_hybrid",
        help=f"{', '.join(VARIANTS)}; {ENCODER}: the speech encoder alone; {LOG_MEL}: "
        "the spectral baseline (default: %(default)s)",
    )
    p.add_argument(
        "-k",
        "--upstream_ckpt",
        metavar="CKPT",
        help="experiment or checkpoint folder, official .ckpt, or Hub id (default: the "
        "newest pretraining run of that name, else the shipped mini model)",
    )
    p.add_argument("--batch-size", type=int, default=32, metavar="N")
    p.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    p.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder that holds ZeroSpeech 2021's semantic/ (default: a mini set, made "
        "at its first use)",
    )
    p.add_argument("--archive", metavar="FILE", help="packages of the mini set, without apt")
    p.add_argument(
        "--submission",
        type=Path,
        metavar="DIR",
        help="also write the files that the official toolkit reads",
    )
    p.add_argument("--submission-format", choices=FORMATS, default="npy")
    add_out_option(p)


def _run(args: argparse.Namespace) -> Path:
    source = _source(args)
    data = load_set(args.data_root, args.archive)
    result = evaluate_zerospeech(source, data, batch_size=args.batch_size)
    sys.stdout.write(semantic_table(result) + "\n")
    if args.submission:
        written = write_submission(
            args.submission,
            source,
            data,
            Choice(**result.metrics["chosen"]),
            form=args.submission_format,
            batch_size=args.batch_size,
        )
        logger.info("submission: %s", written)
    return store(result, args.out)


def semantic_table(result: TaskResult) -> str:
    """Lay a result out as a Markdown table."""
    rows: list[tuple[str, ...]] = [
        (split, kind, name, f"{one['correlation']:.2f}", f"{one['pairs']:,}")
        for split in ("dev", "test")
        for kind, found in result.metrics[split].items()
        for name, one in (
            *found["datasets"].items(),
            ("mean", {"correlation": found["mean"], "pairs": _pairs(found)}),
            ("weighted mean", {"correlation": found["weighted"], "pairs": _pairs(found)}),
        )
    ]
    chosen = result.metrics["chosen"]
    size = f" ({result.size})" if result.size else ""
    mini = " [mini: not comparable with published figures]" if result.mini else ""
    return "\n".join(
        [
            f"{result.system}{size} on {result.corpus}, 100 x Spearman's correlation{mini}",
            f"chosen on dev: layer {chosen['layer']}, {chosen['pooling']} over frames, "
            f"{chosen['distance']} distance",
            "",
            markdown_table(("split", "type", "dataset", "correlation", "pairs"), rows),
        ]
    )


def _pairs(found: dict) -> int:
    return sum(one["pairs"] for one in found["datasets"].values())


def _source(args: argparse.Namespace) -> FeatureSource:
    name = args.upstream
    if name == LOG_MEL:
        if args.upstream_ckpt:
            raise ConfigError(f"{LOG_MEL} has no checkpoint; leave -k out")
        return spectral_source()
    if name not in (*VARIANTS, ENCODER):
        raise ConfigError(unknown_name("upstream", name, (*VARIANTS, ENCODER, LOG_MEL)))
    return model_source(UpstreamExpert(args.upstream_ckpt, name=name), find_device(args.device))


TASK = Task("do distances between spoken words follow their meanings?", _add_options, _run)
