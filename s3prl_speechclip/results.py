"""Result files: one JSON per task, system and corpus."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import ResultError
from .structures import TaskResult

FORMAT = 1
STORED = "computed in float32, kept as float16"
"""In protocols, where stored hidden states were read instead of recordings."""
KINDS = {
    str: "task system size corpus checkpoint checkpoint_hash",
    Mapping: "metrics protocol versions",
    (int, float): "seed wall_time",
    bool: "mini",
}
"""Types of a result's fields."""
REPORTED = ("s3prl_speechclip", "torch", "transformers", "open_clip_torch", "s3prl")


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
        ResultError: a metric is not a number, or the file cannot be written.
    """
    for name, value in _numbers(result.metrics):
        if not math.isfinite(value):
            raise ResultError(f"the metric '{name}' of {result.task} is {value}")
    text = json.dumps({"format": FORMAT, **asdict(result)}, indent=2, ensure_ascii=False) + "\n"
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ResultError(f"cannot write the result '{path}': {error.strerror}") from error
    return path


def read_result(path: Path) -> TaskResult:
    """Read a result.

    Raises:
        ResultError: the file is missing, damaged, of another format, or lacks something.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format", None)
        if found != FORMAT:
            raise ResultError(
                f"'{path}' is a result of format {found}, this version reads {FORMAT}"
            )
        result = TaskResult(**values)
        for kind, names in KINDS.items():
            for name in names.split():
                if not isinstance(getattr(result, name), kind):
                    raise TypeError(f"its {name} is '{str(getattr(result, name))[:40]}'")
        return result
    except OSError as error:
        raise ResultError(f"cannot read the result '{path}': {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"'{path}' is not a result file: {error}") from error


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in REPORTED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
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


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", value
