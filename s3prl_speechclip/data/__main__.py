"""`python -m s3prl_speechclip.data check FOLDER`: check own data before training on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli.common import run
from ..errors import CorpusError
from .check import check
from .corpora import CORPORA, load_corpus
from .corpora.own import Rows, read_rows


def parser() -> argparse.ArgumentParser:
    """Build the parser of the options."""
    p = argparse.ArgumentParser(prog="python -m s3prl_speechclip.data", description="Corpora.")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    c = commands.add_parser(
        "check",
        help="decode all files of a corpus; count, measure, find overlaps and broken rows",
        epilog="Exit status: 0 if all files can be used, 2 if some cannot or it is no corpus.",
    )
    c.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the corpus")
    c.add_argument(
        "--data",
        metavar="LAYOUT",
        choices=CORPORA,
        default="own",
        help=f"layout of the folder: {', '.join(CORPORA)} (default: %(default)s)",
    )
    return p


def command(argv: Sequence[str] | None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    folder = args.folder.expanduser().absolute()
    if args.data == "own":
        rows = read_rows(folder)
    else:
        manifest = load_corpus(args.data, folder, skip_broken=True)
        rows = Rows(dict(enumerate(manifest.utterances, 1)), {}, manifest.notes)
    report = check(folder, rows.utterances, rows.faults)
    for line in (*report.lines, *rows.notes):
        print(line)
    if report.broken:
        raise CorpusError(
            f"{report.broken} rows of '{folder}' cannot be used; correct them, or leave them out "
            "with --skip-broken"
        )


main = run(command)

if __name__ == "__main__":
    sys.exit(main())
