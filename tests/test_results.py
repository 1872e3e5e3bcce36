"""Result files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.results import FORMAT, KINDS, read_result, versions, write_result
from s3prl_speechclip.structures import TaskResult

RESULT = TaskResult(
    task="retrieval",
    system="speechclip_hybrid",
    size="mini",
    corpus="stamps",
    checkpoint="result/pretrain/speechclip_hybrid",
    checkpoint_hash="0" * 64,
    metrics={"test": {"parallel": {"recall@1": 1.5}}},
    protocol={"ties": "pessimistic"},
    seed=0,
    versions=versions(),
    wall_time=1.0,
    mini=True,
)


def test_a_result_reads_back_the_same(tmp_path: Path) -> None:
    """Guards what the leaderboard is made from."""
    assert read_result(write_result(RESULT, tmp_path / "a" / "result.json")) == RESULT


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Guards against NaN in a table."""
    broken = replace(RESULT, metrics={"test": {"parallel": {"recall@1": float("nan")}}})
    with pytest.raises(ResultError, match="recall@1"):
        write_result(broken, tmp_path / "result.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop("metrics"), "not a result file"),
        (lambda values: values.update(format=99), "'format' is '99'"),
        (lambda values: values.update(format=None), "'format' is 'None'"),
    ],
)
def test_another_format_or_a_gap_is_named(tmp_path: Path, change: object, said: str) -> None:
    """Guards against a result of another version that is silently shown."""
    path = write_result(RESULT, tmp_path / "result.json")
    values = json.loads(path.read_text())
    change(values)  # type: ignore[operator]
    path.write_text(json.dumps(values))
    with pytest.raises(ResultError, match=said):
        read_result(path)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    """Guards against a traceback of the JSON reader."""
    (tmp_path / "result.json").write_text('{"format": 1, "task"')
    with pytest.raises(ResultError, match=r"result\.json"):
        read_result(tmp_path / "result.json")


def test_the_schema_is_what_is_checked(root: Path) -> None:
    """Guards the schema for others against another form than `check_record` holds results to."""
    schema = json.loads((root / "benchmarks" / "result.schema.json").read_text(encoding="utf-8"))
    types = {str: "string", int: "integer", float: "number", bool: "boolean", Mapping: "object"}
    hints = get_type_hints(TaskResult)
    expected = {name: types[get_origin(hint) or hint] for name, hint in hints.items()}
    found = {
        name: about.get("type", about.get("const")) for name, about in schema["properties"].items()
    }
    assert found == {"format": FORMAT, **expected}
    assert schema["required"] == list(found) and not schema["additionalProperties"]
    assert types.keys() == KINDS.keys()


def test_committed_results_hold_to_the_schema(root: Path) -> None:
    """Guards `check_record` against refusing what is there."""
    files = sorted((root / "benchmarks" / "results").rglob("*.json"))
    assert len(files) > 40
    for file in files:
        assert read_result(file).task
