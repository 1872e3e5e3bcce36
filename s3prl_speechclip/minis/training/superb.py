"""`make superb-mini`: five SUPERB tasks on their mini sets, for two models and two baselines."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...cli.common import run
from ...downstream.plan import RESULTS, Request
from ...downstream.run import run as run_downstream
from ...downstream.task import all_tasks, find_task
from ...downstream.upstreams import load_upstream
from ...encoders.shipped import ASSETS
from ...errors import ConfigError
from ...results import markdown_table, read_result, write_result
from ...runtime.devices import find_device
from ...structures import TaskResult

logger = logging.getLogger(__name__)

NAMES = ("fluent_commands", "snips", "libriphone", "speech_commands", "quesst14_dtw")
SYSTEMS = ("speechclip_plus", "speechclip_hybrid", "speechclip_encoder", "fbank_no_cmvn")
SHIPPED: Mapping[str, str] = {
    "speechclip_plus": str(ASSETS / "speechclip_plus"),
    "speechclip_hybrid": str(ASSETS / "speechclip_hybrid"),
    "speechclip_encoder": str(ASSETS / "speechclip_hybrid"),
}
"""Checkpoints, so that a model that was trained here in the meantime is not taken instead."""
COMMITTED = Path("benchmarks") / "results" / "superb_mini"
TABLE = "table.md"
COLUMNS = (
    ("IC acc", "fluent_commands", "acc"),
    ("SF F1", "snips", "slot_type_f1"),
    ("SF CER", "snips", "slot_value_cer"),
    ("PR PER", "libriphone", "per"),
    ("KS acc", "speech_commands", "acc"),
    ("QbE maxTWV", "quesst14_dtw", "maxTWV"),
)
"""Head of a column, its task, its metric on test; shown in percent, as SUPERB does but for TWV."""


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    known = ", ".join(task.short for task in all_tasks() if task.name in NAMES)
    p = argparse.ArgumentParser(prog="superb-mini", description=__doc__)
    p.add_argument(
        "-d",
        "--tasks",
        nargs="+",
        default=NAMES,
        metavar="TASK",
        help=f"some of {known} (default: all)",
    )
    p.add_argument(
        "-u",
        "--systems",
        nargs="+",
        default=SYSTEMS,
        metavar="NAME",
        help="upstreams (default: %(default)s)",
    )
    p.add_argument("-o", "--override", default="", metavar="K=V", help="as of run_downstream.py")
    p.add_argument("--archive", metavar="FILE", help="packages of the mini sets, without apt")
    p.add_argument("--seed", type=int, metavar="N", help="of everything random")
    p.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    p.add_argument(
        "--out",
        type=Path,
        default=COMMITTED,
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    return p


def command(argv: Sequence[str] | None) -> Path | None:
    """Run what has no result yet, or has one of other weights; gives the table's file."""
    args = parser().parse_args(argv)
    names = [find_task(name).name for name in args.tasks]
    if set(names) - set(NAMES):
        raise ConfigError(f"mini sets are for {', '.join(NAMES)}; found {', '.join(names)}")
    for system in args.systems:
        checkpoint = SHIPPED.get(system)
        digest = load_upstream(system, checkpoint, None, find_device(args.device)).digest
        for name in names:
            out = args.out / f"{name}-{system}.json"
            if out.is_file() and read_result(out).checkpoint_hash == digest:
                logger.info("%s is there", out)
                continue
            outcome = run_downstream(
                Request(
                    task=name,
                    upstream=system,
                    checkpoint=checkpoint,
                    override=args.override,
                    archive=args.archive,
                    folder=RESULTS / "superb_mini" / f"{name}-{system}-{digest[:8] or 'plain'}",
                    auto_resume=True,
                    seed=args.seed,
                    device=args.device,
                )
            )
            if outcome.result is None:
                logger.info("stopped; the same command goes on")
                return outcome.folder
            write_result(outcome.result, out)
    results = [read_result(path) for path in sorted(args.out.glob("*.json"))]
    text = superb_table(results)
    sys.stdout.write(text)
    table: Path = args.out / TABLE
    table.write_text(text, encoding="utf-8")
    return table


def superb_table(results: Sequence[TaskResult]) -> str:
    """Lay results out as SUPERB does, an upstream a row, with the minutes that all took."""
    by_system: dict[str, dict[str, TaskResult]] = {}
    for result in results:
        by_system.setdefault(result.system, {})[result.task] = result
    order = sorted(by_system, key=lambda name: SYSTEMS.index(name) if name in SYSTEMS else 99)
    rows = []
    for system in order:
        found = by_system[system]
        cells = [_cell(found.get(task), metric) for _, task, metric in COLUMNS]
        minutes = sum(result.wall_time for result in found.values()) / 60
        rows.append((system, *cells, f"{minutes:.0f}"))
    head = ("upstream", *(title for title, _, _ in COLUMNS), "minutes")
    return (
        "SUPERB's tasks on mini sets, test scores in percent, TWV as it is "
        "[mini: not comparable with published figures]\n\n" + markdown_table(head, rows) + "\n"
    )


def _cell(result: TaskResult | None, metric: str) -> str:
    if result is None or metric not in result.metrics.get("test", {}):
        return "-"
    value = float(result.metrics["test"][metric])
    return f"{value:.3f}" if metric == "maxTWV" else f"{100 * value:.1f}"


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
