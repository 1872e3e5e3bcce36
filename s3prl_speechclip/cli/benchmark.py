"""`run_benchmark.py`: measure a trained model."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..benchmarks.retrieval import evaluate_retrieval
from ..data.corpora import CORPORA, load_corpus
from ..evaluation.results import write_result
from ..locate import locate_model
from ..model import SpeechClip
from ..model_config import VARIANTS
from ..pretrain.run import find_device
from ..structures import TaskResult
from .common import run
from .tables import retrieval_table

logger = logging.getLogger(__name__)

RESULTS = Path("result") / "benchmark"


def parser() -> argparse.ArgumentParser:
    """Describe the tasks and their options."""
    p = argparse.ArgumentParser(prog="run_benchmark.py", description="Measure a trained model.")
    p.add_argument("task", choices=list(TASKS), help="what to measure")
    p.add_argument("-u", "--upstream", metavar="NAME", default="speechclip_hybrid",
                   help=f"the model: {', '.join(VARIANTS)} (default: %(default)s)")
    p.add_argument("-k", "--upstream_ckpt", metavar="CKPT",
                   help="experiment or checkpoint folder, official .ckpt, or Hub id (default: the "
                        "newest pretraining run of that name, else the shipped mini model)")
    p.add_argument("--data", metavar="CORPUS", default="stamps",
                   help=f"{', '.join(CORPORA)} (default: %(default)s)")
    p.add_argument("--data-root", metavar="DIR", help="folder of the corpus")
    p.add_argument("--archive", metavar="FILE", help="package of stamps, on machines without apt")
    p.add_argument("--skip-broken", action="store_true",
                   help="leave out, and count, recordings and images that are missing or broken")
    p.add_argument("--batch-size", type=int, default=32, metavar="N")
    p.add_argument("--num-workers", type=int, default=0, metavar="N", help="processes that read")
    p.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    p.add_argument("--out", type=Path, metavar="FILE",
                   help="result file (default: result/benchmark/<task>-<corpus>-<name>.json)")
    return p


def command(argv: Sequence[str] | None) -> Path:
    """Run the command line; gives the result file."""
    args = parser().parse_args(argv)
    result = TASKS[args.task](args)
    name = f"{result.task}-{result.corpus}-{result.system}-{result.size}.json"
    return write_result(result, args.out or RESULTS / name)


def _retrieval(args: argparse.Namespace) -> TaskResult:
    located = locate_model(args.upstream, args.upstream_ckpt)
    logger.info("%s: %s (%s)", args.upstream, located.source, located.reason)
    model = SpeechClip.from_pretrained(located.source).to(find_device(args.device))
    manifest = load_corpus(args.data, args.data_root, args.archive, args.skip_broken)
    result = evaluate_retrieval(
        model,
        located,
        manifest,
        batch_size=args.batch_size,
        skip_broken=args.skip_broken,
        workers=args.num_workers,
    )
    sys.stdout.write(retrieval_table(result) + "\n")
    return result


TASKS: dict[str, Callable[[argparse.Namespace], TaskResult]] = {"retrieval": _retrieval}

main = run(command)

if __name__ == "__main__":
    sys.exit(main())
