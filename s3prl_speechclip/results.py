"""Result files: one JSON per task, system and corpus."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from .atomic import atomic_file
from .errors import ResultError, unknown_name
from .structures import TaskResult

FORMAT = 1
STORED = "computed in float32, kept as float16"
"""In protocols, where stored hidden states were read instead of recordings."""
KINDS: Mapping[Any, tuple[Any, str]] = {
    str: (str, "a text"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    bool: (bool, "true or false"),
    Mapping: (Mapping, "an object"),
}
"""Values that a field of a type may hold, and their name in messages."""
REPORTED = ("s3prl_speechclip", "torch", "transformers", "open_clip_torch")
S3PRL = ("s3prl", "espnet-s3prl")
"""Distributions that provide the module `s3prl`; the second is ESPnet's fork."""


def result_record(*, started: float, **fields: Any) -> TaskResult:
    """Return the record of a finished measurement.

    Args:
        started: `time.perf_counter()` at its beginning, for the wall time.
        **fields: fields of `TaskResult`, but for `versions` and `wall_time`.
    """
    seconds = round(time.perf_counter() - started, 1)
    return TaskResult(versions=versions(), wall_time=seconds, **fields)


def write_result(result: TaskResult, path: Path) -> Path:
    """Write a result; the file appears whole or not at all.

    Raises:
        ResultError: a field or metric that no record can hold, or the file cannot be written.
    """
    values = {"format": FORMAT, **asdict(result)}
    check_record(values)
    text = json.dumps(values, indent=2, ensure_ascii=False)
    try:
        with atomic_file(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ResultError(f"cannot write the result '{path}': {error.strerror}") from error
    return path


def read_result(path: Path) -> TaskResult:
    """Read a result.

    Raises:
        ResultError: the file is missing, damaged, of another format, or a field is wrong.
    """
    try:
        return check_record(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ResultError(f"cannot read the result '{path}': {error.strerror}") from error
    except (ValueError, RecursionError, ResultError) as error:
        raise ResultError(f"'{path}' is not a result file: {error}") from error


def check_record(values: Any) -> TaskResult:
    """Return the result that a record holds; see `benchmarks/result.schema.json`.

    Raises:
        ResultError: a field that is missing, unknown or of another kind, or a number that is not
            finite; the message names the field and the reason.
    """
    hints = get_type_hints(TaskResult)
    found = dict(values) if isinstance(values, Mapping) else {}
    form = found.pop("format", None)
    if form != FORMAT:
        raise ResultError(f"field 'format' is {str(form)[:40]!r}, this version reads {FORMAT}")
    for name in sorted(found.keys() - hints.keys()):
        raise ResultError(unknown_name("field", name, hints))
    for name, hint in hints.items():
        kind = get_origin(hint) or hint
        kinds, text = KINDS[kind]
        value = found.get(name)
        if name not in found:
            raise ResultError(f"field '{name}' is missing, expected {text}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise ResultError(f"field '{name}' is {str(value)[:40]!r}, expected {text}")
    for name, number in _numbers({"metrics": found["metrics"], "wall_time": found["wall_time"]}):
        if not math.isfinite(number):
            raise ResultError(f"field '{name}' is {number}, expected a finite number")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ResultError(f"a text in it is no text ({error.reason})") from error
    return TaskResult(**found)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on; s3prl by the distribution that provides it."""
    missing = dict.fromkeys((*REPORTED, S3PRL[0]), "not installed")
    s3prl = s3prl_versions()
    if s3prl:
        del missing[S3PRL[0]]
    return {"python": platform.python_version(), **missing, **_installed(REPORTED), **s3prl}


def s3prl_versions() -> dict[str, str]:
    """Return the versions of the installed distributions that provide the module `s3prl`."""
    return _installed(S3PRL)


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def markdown_table(
    head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers: int = 0, even: bool = True
) -> str:
    """Return a Markdown table.

    Args:
        head: headings.
        rows: cells.
        numbers: how many of the last columns are set to the right.
        even: whether columns are padded to an even width, for reading as plain text.
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(map(len, column)) if even else 0 for column in zip(*lines, strict=True)]
    texts = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    names = len(widths) - numbers
    rule = [
        "-" * max(3, width + 2) if place < names else "-" * max(2, width + 1) + ":"
        for place, width in enumerate(widths)
    ]
    return "\n".join([texts[0], f"|{'|'.join(rule)}|", *texts[1:]])


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Return the floats of nested values by their dotted names."""
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, Mapping | list):
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, one in inner:
            yield from _numbers(one, f"{name}.{key}" if name else str(key))
