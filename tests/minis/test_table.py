"""The reports on the models that are trained on the mini encoders."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.minis.training.frequency import frequency_tables
from s3prl_speechclip.minis.training.recipe import RESULTS, TABLE, TRIED
from s3prl_speechclip.minis.training.report import models_report, verdict, words_table
from s3prl_speechclip.minis.training.tried import TRIALS, tried_figures, tried_table
from s3prl_speechclip.results import read_result, write_result

COMMITTED = Path(__file__).resolve().parents[2] / RESULTS
RUNS, WORDS = COMMITTED / "runs", COMMITTED / "words"


def test_the_committed_report_is_what_the_results_give():
    """Guards the report against edits by hand, or results that changed under it."""
    tried = tried_table(COMMITTED / TRIED.name)
    text = models_report(RUNS, WORDS, tried, *frequency_tables(COMMITTED))
    assert (COMMITTED / TABLE).read_text(encoding="utf-8") == text


def test_a_mean_is_that_of_its_seeds():
    """Guards the cells against another direction, split or k: one is computed by hand."""
    paths = [*(COMMITTED / "runs").glob("retrieval-speechclip_parallel-seed*.json")]
    found = [read_result(path).metrics["test_image"]["parallel"] for path in paths]
    both = [at[d]["recall@10"] for at in found for d in ("image_to_speech", "speech_to_image")]
    line = next(
        line
        for line in models_report(RUNS, WORDS, "", "", "").splitlines()
        if "parallel branch" in line and "test_image" in line
    )
    assert f"| speechclip_parallel | {sum(both) / len(both):.1f} " in " ".join(line.split())


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ((10.0, 11.0, 12.0), (1.0, 2.0, 3.0), "holds"),
        ((1.0, 2.0, 3.0), (10.0, 11.0, 12.0), "does not hold"),
        ((1.0, 5.0, 9.0), (2.0, 5.0, 9.0), "undecided"),
        ((9.0,), (1.0, 1.1), "undecided: too few seeds"),
    ],
)
def test_a_claim_needs_two_standard_errors(one, other, word):
    """Guards against claims made of noise."""
    assert verdict(one, other)[1] == word


def test_a_missing_metric_is_named(tmp_path):
    """Guards against a traceback where a result lacks what the table shows."""
    for path in (COMMITTED / "runs").glob("*.json"):
        result = read_result(path)
        if path.name == "retrieval-speechclip_hybrid-seed0.json":
            del result.metrics["test_image"]["parallel"]
        write_result(result, tmp_path / path.name)
    with pytest.raises(ResultError, match="speechclip_hybrid-seed0.json' lacks 'parallel' on test"):
        models_report(tmp_path, WORDS, "", "", "")


def test_every_segmentation_has_a_row_of_three_seeds():
    """Guards the words' table against a run that is missing, and one cell, computed by hand."""
    rows = [line.split() for line in words_table(WORDS).splitlines()[2:]]
    assert [(row[1], row[3]) for row in rows] == [
        (segments, losses)
        for segments in ("cif", "mincut", "times", "windows")
        for losses in ("formal", "plain")
    ]
    scores = [
        read_result(WORDS / f"words-cif-formal-seed{seed}.json").metrics["test_speaker"]
        for seed in (0, 1, 2)
    ]
    mean = fmean(score["recognition"] for score in scores)
    assert rows[0][5:7] == [f"{mean:.1f}", "±"]


def test_every_trial_has_a_row():
    """Guards the trials' table against a run that is missing, and the order of its splits."""
    path = COMMITTED / TRIED.name
    rows = [[cell.strip() for cell in row.split("|")] for row in tried_table(path).splitlines()[2:]]
    assert [row[1] for row in rows] == [*TRIALS]
    trials = pd.read_csv(path).set_index("setting")
    shown = trials.loc["the recipe", ["duplicates, dev_speaker", "duplicates, dev_image"]]
    assert rows[0][-2] == " / ".join(f"{value:.1f}" for value in shown)


def test_a_trials_figures_are_those_of_its_result():
    """Guards the trials' columns against another figure, split or direction."""
    keywords = read_result(RUNS / "keywords-speechclip_hybrid-seed0.json")
    retrieval = read_result(RUNS / "retrieval-speechclip_hybrid-seed0.json")
    found = tried_figures(keywords) | tried_figures(retrieval)
    split = keywords.metrics["test_image"]
    assert found["duplicates, test_image"] == round(split["counts"]["duplicates"], 2)
    own = retrieval.metrics["test_speaker"]["cascaded"]
    both = [own[d]["recall@10"] for d in ("speech_to_image", "image_to_speech")]
    assert found["cascaded recall@10, test_speaker"] == pytest.approx(fmean(both), abs=0.01)
