"""The leaderboard: what it gathers, what it never mixes, and its page in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import open_page
from small_models import small_model

from s3prl_speechclip.benchmarks.leaderboard import (
    PUBLISHED,
    all_sections,
    gather,
    markdown,
    partial_superb_score,
    ranked,
    reference_points,
    rows_of,
    steps_shown,
    superb_score,
    write_leaderboard,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.results import write_result
from s3prl_speechclip.structures import TaskResult

RETRIEVAL, SUPERB = all_sections()["retrieval"], all_sections()["superb"]


def published_superb() -> list[dict[str, str]]:
    with open(PUBLISHED / "superb.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def row_of(system: str) -> dict[str, str]:
    return next(row for row in published_superb() if row["system"] == system)


def scores_of(row: dict[str, str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for task, metrics in reference_points().items():
        for metric in metrics:
            text = row[task if len(metrics) == 1 else f"{task}_{metric}"]
            if text:
                found.setdefault(task, {})[metric] = float(text)
    return found


def test_published_scores_are_reproduced() -> None:
    """Guards superb_s: every published one, to the integer."""
    rows = [row for row in published_superb() if row["superb_s"]]
    assert len(rows) == 22
    for row in rows:
        assert round(superb_score(scores_of(row))) == int(row["superb_s"]), row["system"]


def test_a_partial_score_is_not_superb_s() -> None:
    """Guards against a score over five tasks beside scores over ten."""
    whole, part = (scores_of(row_of(name)) for name in ("HuBERT Base", "Cascaded CLIP (early)"))
    with pytest.raises(ResultError, match="missing: SID, ER, ASR, ASV, SD"):
        superb_score(part)
    assert partial_superb_score(whole) == superb_score(whole) != partial_superb_score(part)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"KS": {}}, "KS has no accuracy"),
        ({"KS": {"acurracy": 90.0}}, "did you mean 'accuracy'"),
        ({"KS": {"accuracy": float("nan")}}, "KS accuracy is nan"),
        ({"SF": {"F1": 90.0}}, "SF has no CER"),
        ({"ST": {"BLEU": 20.0}}, "unknown SUPERB task 'ST'"),
    ],
)
def test_a_score_needs_numbers_of_every_metric(change: dict[str, Any], named: str) -> None:
    """Guards against a missing metric that counts as nothing."""
    with pytest.raises(ResultError, match=named):
        superb_score({**scores_of(row_of("HuBERT Base")), **change})


def recall(value: float) -> dict[str, Any]:
    return {
        direction: {f"recall@{k}": value + k for k in (1, 5, 10)}
        for direction in ("speech_to_image", "image_to_speech", "mean")
    }


def result(task: str, metrics: dict[str, Any], **changes: Any) -> TaskResult:
    values: dict[str, Any] = {
        "system": "speechclip_hybrid",
        "size": "base",
        "corpus": "flickr8k",
        "checkpoint": "somewhere",
        "checkpoint_hash": "0" * 64,
        "protocol": {},
        "seed": 0,
        "versions": {},
        "wall_time": 1.0,
        "mini": False,
    }
    return TaskResult(task=task, metrics=metrics, **{**values, **changes})


RECALLED = result("retrieval", {"test": {"parallel": recall(30.0), "chance": recall(0.0)}})


def rows(folder: Path, section: Any = RETRIEVAL) -> list[Any]:
    """Identity and cells of the rows that are not published."""
    found = rows_of(ranked(section, gather([folder], folder).figures))
    return [(who, cells) for who, cells in found if not who["published"]]


def test_the_committed_table_is_what_the_results_give(root: Path) -> None:
    """Guards against a table that was not made again, or by hand, and results it cannot read."""
    home = root / "benchmarks" / "results"
    board = gather([home], home)
    assert not board.left_out
    stale = "run 'python run_benchmark.py leaderboard'"
    assert (home / "LEADERBOARD.md").read_text(encoding="utf-8") == markdown(board, home), stale


def test_miniatures_are_never_ranked_with_published_figures(root: Path) -> None:
    """Guards the two parts of the leaderboard."""
    home = root / "benchmarks" / "results"
    board = gather([home], home)
    assert not (board.figures.mini & board.figures.published).any()
    comparable, _, miniatures = markdown(board, home).partition("# Miniatures")
    assert "demo.json" in miniatures and "demo.json" not in comparable
    assert "arxiv.org" in comparable and "arxiv.org" not in miniatures


def test_every_figure_links_to_where_it_is_from(root: Path) -> None:
    """Guards against links that lead nowhere."""
    home = root / "benchmarks" / "results"
    for link in set(gather([home], home).figures.link):
        assert link.startswith("https://") or (home / link).is_file(), link


def test_own_results_stand_beside_published_ones(tmp_path: Path) -> None:
    """Guards the corpus' spelling: another one would be another table."""
    write_result(RECALLED, tmp_path / "one.json")
    assert [who["corpus"] for who, _ in rows(tmp_path)] == ["Flickr8k", "Flickr8k"]
    ((_, own),) = [row for row in rows(tmp_path) if row[0]["system"] != "chance"]
    assert own.value["S2I R@5"] == 35.0
    assert own.link["S2I R@5"] == ["one.json"]


def test_runs_in_a_folder_are_averaged_with_their_spread(tmp_path: Path) -> None:
    """Guards the mean over seeds, and that one run in two files counts once."""
    for seed in range(3):
        metrics = {"test": {"parallel": recall(30.0 + seed), "chance": recall(0.0)}}
        run = replace(RECALLED, metrics=metrics, checkpoint_hash=str(seed), seed=seed)
        write_result(run, tmp_path / "seeds" / f"{seed}.json")
    shutil.copy(tmp_path / "seeds" / "0.json", tmp_path / "seeds" / "again.json")
    shutil.copy(tmp_path / "seeds" / "0.json", tmp_path / "0.json")  # and takes none from there
    of_seeds = [row for row in rows(tmp_path) if row[0]["runs"] != "0"]
    (_, chance), (_, own) = sorted(of_seeds, key=lambda row: row[0]["system"])
    cell = own.loc["mean R@1"]
    assert (cell.value, cell.spread, len(cell["values"])) == (32.0, 1.0, 3)
    assert len(chance["values"]["mean R@1"]) == 1
    assert "32.0 ± 1.0" in markdown(gather([tmp_path], tmp_path), tmp_path)


def superb(task: str, **metrics: float) -> TaskResult:
    return result(task, {"dev": {}, "test": metrics}, corpus=task, size="")


def test_superb_tasks_of_a_system_are_one_row(tmp_path: Path) -> None:
    """Guards the percent, and that a partial score names its tasks."""
    write_result(superb("speech_commands", acc=0.963), tmp_path / "ks.json")
    write_result(superb("libriphone", per=0.0541), tmp_path / "pr.json")
    write_result(superb("snips", slot_type_f1=0.9, slot_value_cer=0.25), tmp_path / "sf.json")
    ((_, row),) = rows(tmp_path, SUPERB)
    values = row.value.round(4).to_dict()
    score = values.pop("partial")
    assert values == {"PR": 5.41, "KS": 96.3, "SF_F1": 90.0, "SF_CER": 25.0}
    assert row.note["partial"] == ["PR, KS, SF"]
    scores = {"PR": {"PER": 5.41}, "KS": {"accuracy": 96.3}, "SF": {"F1": 90.0, "CER": 25.0}}
    assert score == pytest.approx(partial_superb_score(scores), abs=1e-3)


@pytest.mark.parametrize(
    ("steps", "named"), [(500, "500, shortened"), (200_000, "200,000"), (None, "")]
)
def test_a_row_shows_its_steps(tmp_path: Path, steps: int | None, named: str) -> None:
    """Guards against a shortened run that passes for SUPERB's protocol."""
    run = replace(superb("speech_commands", acc=0.9), protocol={"steps": steps})
    write_result(run, tmp_path / "ks.json")
    ((_, row),) = rows(tmp_path, SUPERB)
    assert steps_shown(row) == named
    text = markdown(gather([tmp_path], tmp_path), tmp_path)
    assert named in next(line for line in text.splitlines() if "ks.json" in line)


def test_own_recordings_stand_apart(tmp_path: Path) -> None:
    """Guards the published tables against figures on other recordings in the same layout."""
    own = replace(RECALLED, corpus="own (Flickr8k layout)", protocol={"training_steps": 2000})
    write_result(own, tmp_path / "own.json")
    text = markdown(gather([tmp_path], tmp_path), tmp_path)
    comparable, _, apart = text.partition("# Own corpora")
    apart, _, miniatures = apart.partition("# Miniatures")
    assert "own.json" in apart and "2,000, shortened" in apart
    assert "own.json" not in comparable + miniatures and "chance" not in comparable
    assert "arxiv.org" not in apart


def test_mini_sets_have_no_superb_score(tmp_path: Path) -> None:
    """Guards against reference points of the real corpora on others."""
    run = replace(superb("speech_commands", acc=0.9), corpus="speech_commands_mini", mini=True)
    write_result(run, tmp_path / "ks.json")
    ((who, row),) = rows(tmp_path, SUPERB)
    assert set(row.index) == {"KS"} and who["corpus"] == "mini sets"


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda v: v.update(format=0), "is a result of format 0"),
        (lambda v: v.pop("seed"), "is not a result file.*seed"),
        (
            lambda v: v["metrics"]["test"]["parallel"]["mean"].pop("recall@5"),
            "it has no metric 'test.parallel.mean.recall@5'",
        ),
        (
            lambda v: v["metrics"]["test"]["parallel"]["mean"].update({"recall@5": float("nan")}),
            "its metric 'test.parallel.mean.recall@5' is nan",
        ),
        (lambda v: v["metrics"]["test"].pop("parallel"), "it has no metric of parallel"),
        (lambda v: v.update(metrics={}), "it has no metrics"),
        (lambda v: v.update(metrics=[]), "is not a result file.*metrics"),
        (lambda v: v.update(mini="no"), "is not a result file.*mini"),
        (lambda v: v.update(protocol=[1]), "is not a result file.*protocol"),
        (lambda v: v.update(wall_time="1 h"), "is not a result file.*wall_time"),
        (lambda v: v.update(metrics={"test": 3}), "its metrics are not those of retrieval"),
        (lambda v: v.update(system=3), "is not a result file.*system"),
    ],
)
def test_a_bad_result_is_left_out_and_named(
    tmp_path: Path, break_it: Callable[[Any], None], named: str
) -> None:
    """Guards against figures that vanish from the leaderboard, and one file that stops it all."""
    write_result(RECALLED, tmp_path / "good.json")
    path = write_result(replace(RECALLED, seed=1), tmp_path / "one.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    break_it(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    board = gather([tmp_path], tmp_path)
    (line,) = board.left_out
    assert re.match(f"one.json: .*{named}", line)
    assert set(board.figures.source) >= {"good.json"}
    assert "one.json" in markdown(board, tmp_path).partition("# Left out")[2]


def test_other_json_files_beside_results_are_passed_over(tmp_path: Path) -> None:
    """Guards `leaderboard --results result`, where checkpoints and partial evaluations lie too."""
    write_result(RECALLED, tmp_path / "retrieval" / "one.json")
    small_model("speechclip_parallel").save_pretrained(tmp_path / "pretrain" / "last")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "torn.json").write_text('{"task')
    (tmp_path / "nested.json").write_text("[" * 100_000)
    write_result(result("snips", {"dev": {"slot_type_f1": 0.5}}), tmp_path / "dev.json")
    board = gather([tmp_path], tmp_path)
    assert [line.partition(":")[0] for line in board.left_out] == [
        "dev.json",
        "nested.json",
        "torn.json",
    ]
    assert "one.json" in set(board.figures.source)


def test_a_result_without_a_table_is_listed(tmp_path: Path) -> None:
    """Guards against results that are passed over in silence."""
    write_result(result("emotion", {"test": {"acc": 0.6}}), tmp_path / "er.json")
    board = gather([tmp_path], tmp_path)
    assert board.left_out == ("er.json: no table for the task 'emotion'",)
    assert "er.json" in markdown(board, tmp_path)


def test_equal_results_give_equal_files(root: Path, tmp_path: Path) -> None:
    """Guards against times, orders of folders and the like in the files."""
    shutil.copytree(root / "benchmarks" / "results", tmp_path / "here")
    texts = []
    for _ in range(2):
        paths = write_leaderboard(gather([tmp_path / "here"], tmp_path / "out"), tmp_path / "out")
        texts.append([path.read_bytes() for path in paths])
    assert texts[0] == texts[1]


def test_the_command_line_writes_all_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the last line on standard output, and the page's own place."""
    write_result(RECALLED, tmp_path / "results" / "one.json")
    page = tmp_path / "elsewhere" / "page.html"
    arguments = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "board")]
    assert main(["leaderboard", *arguments, "--html", str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "board" / "LEADERBOARD.md")
    assert page.is_file() and (tmp_path / "board" / "leaderboard.csv").is_file()
    assert main(["leaderboard", "--results", str(tmp_path / "none")]) == 2
    assert "there is no folder of results" in capsys.readouterr().err


SCRIPT = """
const column = name => [...document.querySelectorAll("#superb tbody tr")].map(row =>
  row.cells[[...document.querySelectorAll("#superb thead th")].findIndex(
    th => th.dataset.column === name)].textContent);
const click = name => document.querySelector(
  `#superb th[data-column="${name}"] button`).click();
const choose = (id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event("input"));
};
const systems = table => [...document.querySelectorAll(`#${table} td.system`)].map(
  cell => cell.textContent);
const found = { comparable: document.getElementById("comparable").textContent };
click("PR"); found.rising = column("PR");
click("PR"); found.falling = column("PR");
click("ASR"); found.gaps = column("ASR");
choose("size", "large"); found.large = systems("retrieval"); choose("size", "");
choose("corpus", "SpokenCOCO"); found.coco = systems("retrieval"); choose("corpus", "");
choose("search", "wavlm"); found.searched = systems("superb"); choose("search", "");
found.miniatures = systems("retrieval-mini");
found.bars = [...document.querySelectorAll("#comparable figure .bar")].length;
found.unlinked = [...document.querySelectorAll("td:not(.name)")].filter(
  cell => cell.textContent && !cell.querySelector("a[href]")).length;
found.links = [...new Set([...document.querySelectorAll("td a")].map(
  a => a.getAttribute("href")))];
found.hostile = document.getElementById("miniatures").textContent.includes("<" + "/script>");
return found;
"""


def test_the_page_sorts_and_filters(tmp_path: Path) -> None:
    """Guards the page as a person uses it, with a name in it that would end a script."""
    mini = replace(RECALLED, mini=True, size="mini", system="x</script><b>y", corpus="stamps")
    write_result(mini, tmp_path / "a result#1.json")
    _, _, path = write_leaderboard(gather([tmp_path], tmp_path), tmp_path)
    page = open_page(path, SCRIPT)
    assert page.console_errors == ()
    found = page.value
    rising = [float(text) for text in found["rising"]]
    assert len(rising) == 25 and rising == sorted(rising)
    assert [float(text) for text in found["falling"]] == rising[::-1]
    asr = [float(text) for text in found["gaps"] if text]
    assert asr == sorted(asr) and found["gaps"][len(asr) :] == [""] * 3
    assert found["large"] == ["SpeechCLIP parallel", "SpeechCLIP cascaded"] * 2
    assert len(found["coco"]) == 5
    assert found["searched"] == [
        "WavLM Large",
        "WavLM Large (v1)",
        "WavLM Base+",
        "WavLM Base+ (v1)",
        "WavLM Base",
    ]
    assert found["miniatures"] == ["x</script><b>y, parallel", "chance"]
    assert found["hostile"] and "x</script>" not in found["comparable"]
    assert found["bars"] > 80
    assert found["unlinked"] == 0
    files = [link for link in found["links"] if not link.startswith("https://")]
    assert files and all((tmp_path / unquote(link)).is_file() for link in files)
