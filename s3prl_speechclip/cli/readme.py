"""`make readme`: put the last demo's result beside the code, and its tables into docs/."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmarks.retrieval import table as retrieval_table
from ..benchmarks.shared.benchmark import RESULTS
from ..errors import ResultError
from ..minis.training.report import DEMO, SUPERB_RESULTS, superb_table
from ..results import read_result
from .common import run

PAGE = Path("docs") / "miniatures.md"
COMMITTED = Path("benchmarks") / "results" / "demo.json"


def blocks(root: Path = Path()) -> dict[str, str]:
    """Return the page's tables by the name of their place, from the committed results."""
    superb = [read_result(path) for path in sorted((root / SUPERB_RESULTS).glob("*.json"))]
    return {
        "demo": retrieval_table(read_result(root / COMMITTED)) + "\n",
        "superb": superb_table(superb),
    }


def place(name: str) -> re.Pattern[str]:
    """Match what stands between the marks of a table."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def command(argv: Sequence[str] | None) -> Path:
    """Copy the last demo's result, if any, and rewrite the tables; returns the page."""
    made = sorted(
        RESULTS.glob(f"retrieval-stamps-{DEMO}-mini-*.json"), key=lambda p: p.stat().st_mtime
    )
    if made:
        shutil.copyfile(made[-1], COMMITTED)
    elif not COMMITTED.is_file():
        raise ResultError(f"'{RESULTS}' holds no result of the demo: run 'make demo' first")
    text = PAGE.read_text(encoding="utf-8")
    for name, table in blocks().items():
        before, after = place(name).split(text, maxsplit=1)
        text = before + table + after
    PAGE.write_text(text, encoding="utf-8")
    return PAGE


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
