"""What the tasks of `run_benchmark.py` share: options, the model, the corpus, the result file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...checkpoints.locate import Located, locate_model
from ...data.corpora import CORPORA, load_corpus
from ...data.feature_store import FeatureStore
from ...data.manifest import Manifest
from ...encoders.speech_features import cached_features
from ...model.config import VARIANTS
from ...model.speechclip import SpeechClip
from ...pretrain.config import DataConfig
from ...results import write_result
from ...runtime.devices import find_device
from ...structures import TaskResult

logger = logging.getLogger(__name__)

RESULTS = Path("result") / "benchmark"


@dataclass(frozen=True)
class Task:
    """One thing that can be measured."""

    help: str
    """One line for people."""
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Path]
    """Measure; gives the file that was made."""


def add_model_options(p: argparse.ArgumentParser) -> None:
    """Add the options that name a trained model and where it runs."""
    p.add_argument(
        "-u",
        "--upstream",
        metavar="NAME",
        default="speechclip_hybrid",
        help=f"the model: {', '.join(VARIANTS)} (default: %(default)s)",
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


def add_worker_option(p: argparse.ArgumentParser) -> None:
    """Add the option that says how many processes read."""
    p.add_argument("--num-workers", type=int, default=0, metavar="N", help="processes that read")


def add_states_option(p: argparse.ArgumentParser) -> None:
    """Add the option that keeps hidden states for the next model on the same encoder."""
    p.add_argument(
        "--keep-states",
        action="store_true",
        help="keep the frozen speech encoder's hidden states of the test splits, in "
        "float16, and read what was kept before",
    )


def kept_states(
    args: argparse.Namespace, model: SpeechClip, manifest: Manifest
) -> dict[str, FeatureStore]:
    """Give the hidden states of the test splits by name, where `--keep-states` asks for them."""
    if not args.keep_states:
        return {}
    config = DataConfig(cache_features="on", skip_broken=args.skip_broken)
    return cached_features(model.speech_encoder, manifest, config, splits=manifest.test_splits)


def add_corpus_options(p: argparse.ArgumentParser) -> None:
    """Add the options that name a corpus of recordings and images."""
    p.add_argument(
        "--data",
        metavar="CORPUS",
        default="stamps",
        help=f"{', '.join(CORPORA)} (default: %(default)s)",
    )
    p.add_argument("--data-root", metavar="DIR", help="folder of the corpus")
    p.add_argument("--archive", metavar="FILE", help="package of stamps, on machines without apt")
    p.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out, and count, recordings and images that are missing or broken",
    )


def add_out_option(p: argparse.ArgumentParser) -> None:
    """Add the option that names the result file."""
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="result file (default: result/benchmark/<task>-<corpus>-<name>.json)",
    )


def load_model(args: argparse.Namespace) -> tuple[SpeechClip, Located]:
    """Find and load the model that the options name, on its device, in evaluation mode."""
    located = locate_model(args.upstream, args.upstream_ckpt)
    logger.info("%s: %s (%s)", args.upstream, located.source, located.reason)
    model = SpeechClip.from_pretrained(located.source).to(find_device(args.device))
    return model, located


def load_manifest(args: argparse.Namespace) -> Manifest:
    """Read the corpus that the options name."""
    return load_corpus(args.data, args.data_root, args.archive, args.skip_broken)


def result_path(result: TaskResult, out: Path | None) -> Path:
    """Say where a result goes: where `--out` says, else by its name."""
    parts = (result.task, result.corpus, result.system, result.size)  # a baseline has no size
    return out or RESULTS / f"{'-'.join(filter(None, parts))}.json"


def store(result: TaskResult, out: Path | None) -> Path:
    """Write a result where it goes; gives the file."""
    return write_result(result, result_path(result, out))
