"""The table of the five models over seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.minis.training.models import RESULTS
from s3prl_speechclip.minis.training.recipe import NORM_REPORT, TABLE
from s3prl_speechclip.minis.training.report import (
    claims,
    models_report,
    norm_report,
    read_figures,
    recall_rows,
    verdict,
)
from s3prl_speechclip.results import read_result, write_result

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / RESULTS


def test_the_committed_table_is_what_the_results_give():
    """Guards against a table edited by hand, or results that changed under it."""
    assert (COMMITTED / TABLE).read_text(encoding="utf-8") == models_report(COMMITTED / "runs")


def test_the_committed_comparison_of_norms_is_what_the_results_give():
    """Guards the report of the ablation against an edit by hand, and its lists' presence."""
    text = (COMMITTED / NORM_REPORT).read_text(encoding="utf-8")
    assert text == norm_report(COMMITTED / "keyword_norm")
    assert "- with batch norm: " in text and "- without batch norm: " in text


def test_a_mean_is_that_of_its_seeds():
    """Guards the cells against another direction, split or k: one is computed by hand."""
    results = [
        read_result(COMMITTED / "runs" / f"retrieval-speechclip_parallel-seed{seed}.json")
        for seed in range(3)
    ]
    values = [r.metrics["test_image"]["parallel"]["image_to_speech"]["recall@10"] for r in results]
    head, rows = recall_rows(read_figures(COMMITTED / "runs"))
    cell = rows[0][head.index("test_image I>S")]
    assert cell.startswith(f"{sum(values) / len(values):.1f}")


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ((10.0, 11.0, 12.0), (1.0, 2.0, 3.0), "**holds**"),
        ((1.0, 2.0, 3.0), (10.0, 11.0, 12.0), "**does not hold**"),
        ((1.0, 5.0, 9.0), (2.0, 5.0, 9.0), "**undecided**"),
        ((9.0,), (1.0, 1.1), "one seed: **undecided**"),
    ],
)
def test_a_claim_needs_two_standard_errors(one, other, word):
    """Guards against claims made of noise."""
    assert word in verdict(one, other)


def test_both_claims_are_answered():
    """Guards against a claim that silently has no line."""
    lines = claims(read_figures(COMMITTED / "runs"))
    assert sum("CIF keywords" in line for line in lines) == 4
    assert sum("cascaded task" in line for line in lines) == 4


def test_a_missing_metric_is_named(tmp_path):
    """Guards against a traceback where a result lacks what the table shows."""
    for path in (COMMITTED / "runs").glob("*.json"):
        result = read_result(path)
        if path.name == "retrieval-speechclip_plus-seed0.json":
            del result.metrics["test_image"]["cascaded"]
        write_result(result, tmp_path / path.name)
    with pytest.raises(ResultError, match="speechclip_plus lacks 'cascaded' on test_image"):
        read_figures(tmp_path)
