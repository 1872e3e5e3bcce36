"""`make readme`: put the last demo's result beside the code, and its tables into docs/."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmarks.peers.scores import SCORES, read_runs, scores_table
from ..benchmarks.retrieval import table as retrieval_table
from ..benchmarks.speed import table as speed_table
from ..benchmarks.speed import waiting_table
from ..errors import ResultError
from ..minis.training.report import DEMO_RESULTS, SUPERB_RESULTS, superb_table
from ..results import read_result
from .common import run

DOCS = Path("docs")
PAGES = {
    **dict.fromkeys(("demo", "superb"), DOCS / "miniatures.md"),
    **dict.fromkeys(("speed", "scores", "waiting"), DOCS / "speed.md"),
}
"""Pages by the tables that they hold."""
COMMITTED = Path("benchmarks") / "results" / "demo.json"
SPEED = Path("benchmarks") / "results" / "speed"


def blocks(root: Path = Path()) -> dict[str, str]:
    """Return the tables of the documentation by name, from the committed results."""
    superb = [read_result(path) for path in sorted((root / SUPERB_RESULTS).glob("*.json"))]
    return {
        "demo": retrieval_table(read_result(root / COMMITTED)) + "\n",
        "superb": superb_table(superb),
        "speed": speed_table(read_result(root / SPEED / "two-cores.json")) + "\n",
        "scores": scores_table(read_runs(root / SCORES)) + "\n",
        "waiting": waiting_table(read_result(root / SPEED / "busy-core.json")) + "\n",
    }


def place(name: str) -> re.Pattern[str]:
    """Match what stands between the marks of a table."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def command(argv: Sequence[str] | None) -> Path:
    """Copy the last demo's result, if any, and rewrite the tables; returns their folder."""
    prog = "python -m s3prl_speechclip.cli.readme"
    argparse.ArgumentParser(prog=prog, description=__doc__).parse_args(argv)
    made = DEMO_RESULTS / "trained" / "retrieval.json"
    if made.is_file():
        shutil.copyfile(made, COMMITTED)
    elif not COMMITTED.is_file():
        raise ResultError(f"there is no '{made}': run 'make demo' first")
    for name, table in blocks().items():
        text = PAGES[name].read_text(encoding="utf-8")
        before, after = place(name).split(text, maxsplit=1)
        PAGES[name].write_text(before + table + after, encoding="utf-8")
    return DOCS


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
