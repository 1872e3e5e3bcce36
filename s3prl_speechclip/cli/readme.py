"""`make readme`: put the last demo's result beside the code, and its table into the README."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ResultError
from ..evaluation.results import read_result
from .benchmark import RESULTS
from .common import run
from .demo import NAME
from .tables import retrieval_table

README = Path("README.md")
COMMITTED = Path("benchmarks") / "results" / "demo.json"
BLOCK = re.compile(r"(?<=<!-- demo -->\n).*?(?=<!-- /demo -->)", re.DOTALL)


def demo_block(result: Path) -> str:
    """Give the README's table of a demo's result."""
    return retrieval_table(read_result(result)) + "\n"


def command(argv: Sequence[str] | None) -> Path:
    """Copy the result of the last `make demo` and rewrite the table; gives the README."""
    made = RESULTS / f"retrieval-stamps-{NAME}-mini.json"
    if not made.is_file():
        raise ResultError(f"'{made}' is not there: run 'make demo' first")
    shutil.copyfile(made, COMMITTED)
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(lambda _: demo_block(COMMITTED), text), encoding="utf-8")
    return README


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
