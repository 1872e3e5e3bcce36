"""Read text files, JSON and tables in one way for all corpora.

A byte order mark is ignored, and lines end at LF or CRLF only: U+2028, U+0085 and other characters
that Unicode calls line separators may stand in a caption.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CorpusError

WAV_HEADER = 44  # bytes of a WAV file that holds no samples


def read_text(path: Path) -> str:
    """Read a UTF-8 file whose lines end with LF or CRLF.

    Raises:
        CorpusError: the file is missing or cannot be read as text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read().replace("\r\n", "\n")
    except OSError as error:
        raise CorpusError(f"cannot read '{path}' ({error.strerror}); restore it") from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"cannot read '{path}': it is not UTF-8 ({error.reason} at byte {error.start}); "
            "convert it to UTF-8 or restore it"
        ) from error


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file that are not blank, without the white space around them."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"cannot read '{path}': it is not JSON ({error}); restore it") from error


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ","
) -> list[tuple[int, dict[str, str]]]:
    """Read a table with a header row.

    Args:
        path: CSV or TSV file.
        columns: names that the header must have.
        delimiter: character between cells; between tabs, quotation marks are ordinary characters.

    Returns:
        Line number and cells by column name of each row, without the white space around them.

    Raises:
        CorpusError: see `read_text`; or a column or a cell is missing, or there are no rows.
    """
    # Kept ends and an iterator over LF alone: the csv module would also split at a bare CR.
    lines = (line + "\n" for line in read_text(path).split("\n"))
    table = csv.DictReader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        lacking = [name for name in columns if name not in (table.fieldnames or ())]
        if lacking:
            raise CorpusError(
                f"'{path}' has no column {', '.join(lacking)}; expected the header "
                f"{delimiter.join(columns)}"
            )
        twice = [name for name, count in Counter(table.fieldnames).items() if count > 1]
        if twice:
            raise CorpusError(f"'{path}' has two columns {', '.join(twice)}; leave one of each")
        for row in table:
            if None in row or None in row.values():
                found = "too many" if None in row else "too few"
                raise CorpusError(
                    f"'{path}', line {table.line_num}, has {found} cells; restore the file, or put "
                    f'quotation marks around text that holds "{delimiter}"'
                )
            rows.append((table.line_num, {name: cell.strip() for name, cell in row.items()}))
    except csv.Error as error:
        raise CorpusError(
            f"'{path}' is not a CSV file (line {table.line_num}: {error}); restore the file"
        ) from error
    if not rows:
        raise CorpusError(f"'{path}' holds no rows; restore the file")
    return rows
