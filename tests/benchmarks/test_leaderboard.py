"""The leaderboard: what it gathers, what it never mixes, and its page in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import open_page
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_model

from s3prl_speechclip.benchmarks.leaderboard import check, published, superb_score
from s3prl_speechclip.benchmarks.leaderboard.figures import gather
from s3prl_speechclip.benchmarks.leaderboard.published import PUBLISHED
from s3prl_speechclip.benchmarks.leaderboard.ranking import COMPARABLE, ranked, rows_of
from s3prl_speechclip.benchmarks.leaderboard.sections import LAYOUT, all_sections
from s3prl_speechclip.benchmarks.leaderboard.superb import (
    MEASURED,
    partial_superb_score,
    reference_points,
)
from s3prl_speechclip.benchmarks.leaderboard.tables import (
    markdown,
    steps_shown,
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
    assert (row_of("FaST-VGS+")["QbE"], row_of("FaST-VGS+")["superb_s"]) == ("5.62", "809")


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
    stale = "run 'make leaderboard'"
    assert (home / "LEADERBOARD.md").read_text(encoding="utf-8") == markdown(board, home), stale


def test_miniatures_are_never_ranked_with_published_figures(root: Path) -> None:
    """Guards the two parts of the leaderboard."""
    home = root / "benchmarks" / "results"
    board = gather([home], home)
    assert set(board.figures[board.figures.published].part) == {COMPARABLE}
    comparable, _, miniatures = markdown(board, home).partition("# Miniatures")
    assert "demo.json" in miniatures and "demo.json" not in comparable
    assert "arxiv.org" in comparable and "arxiv.org" not in miniatures
    assert "not MiniSUPERB" in miniatures


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


def test_seeds_of_a_system_are_averaged_and_other_runs_are_not(tmp_path: Path) -> None:
    """Guards the mean over seeds: not over ablations, not over one run measured again."""
    for name, value in (("a-seed0", 30.0), ("a-seed1", 31.0), ("a-seed2", 32.0), ("b", 90.0)):
        metrics = {"test": {"parallel": recall(value), "chance": recall(0.0)}}
        run = replace(RECALLED, metrics=metrics, checkpoint=f"result/pretrain/{name}")
        write_result(run, tmp_path / "benchmark" / f"{name}.json")
    shutil.copy(tmp_path / "benchmark/b.json", tmp_path / "copy.json")
    again = replace(run, metrics={"test": {"parallel": recall(70.0), "chance": recall(0.0)}})
    write_result(again, tmp_path / "benchmark" / "b.more.json")
    found = {who["runs"]: cells for who, cells in rows(tmp_path) if who["system"] != "chance"}
    assert found.keys() == {"benchmark/a", "benchmark/b", "benchmark/b.more"}
    cell = found["benchmark/a"].loc["mean R@1"]
    assert (cell.value, cell.spread, len(cell["values"])) == (32.0, 1.0, 3)
    assert found["benchmark/b"].value["mean R@1"] == 91.0
    text = markdown(gather([tmp_path], tmp_path), tmp_path)
    assert "32.0 ± 1.0" in text and "3 in benchmark/a" in text
    assert text.count("| chance |") + text.count("[chance]") == 1


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


OWN_BOARD = {
    "speech_commands": {"acc": 0.963},
    "fluent_commands": {"acc": 0.9834},
    "libriphone": {"per": 0.0541},
    "snips": {"slot_type_f1": 0.8853, "slot_value_cer": 0.252},
    "asr": {"wer": 6.42},
    "voxceleb1": {"acc": 0.8142},
    "sv_voxceleb1": {"EER": 0.0511},
    "diarization": {"acc": 0.9, "der": 0.0588},
    "quesst14_dtw": {"maxTWV": 0.0736},
}


def test_a_board_of_ones_own_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """Guards the tasks of a system, each in its experiment's folder, as one row with superb_s."""
    for task, metrics in OWN_BOARD.items():
        test, known = MEASURED[task]
        assert {metric.key for metric in known} <= metrics.keys(), task
        write_result(
            result(task, {test: metrics}, corpus=task, size="base"),
            tmp_path / "result" / "downstream" / task / "result.json",
        )
    for fold in range(1, 6):
        # As runs write it: of -v where there is one; a configuration may name it too.
        datarc = {"test_fold": f"fold{fold}"} if fold == 5 else {}
        variant = f"fold{fold}" if fold in (2, 3, 4) else None
        protocol = {"expert": {"datarc": datarc}, "variant": variant}
        emotion = result("emotion", {"test": {"acc": 0.6 + 0.02 * fold}}, protocol=protocol)
        path = tmp_path / "result" / "downstream" / f"fold{fold}" / "result.json"
        write_result(replace(emotion, corpus="emotion"), path)
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"result"}
    ((who, row),) = rows(tmp_path / "result", SUPERB)
    assert who["runs"] == "somewhere"
    assert (row.value["ER"], row.value["SD"], row.value["IC"]) == (66.0, 5.88, 98.34)
    assert set(row.index) >= {*reference_points()} - {"SF"} and "partial" not in row.index
    assert 930 < row.value["superb_s"] < 955
    text = (tmp_path / "result" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "5.88 (of frames)" in text and "WavLM Base" in text
    path.unlink()
    board = gather([tmp_path / "result"], tmp_path)
    assert "ER is the mean of 5 folds, found fold1, fold2, fold3, fold4" in board.left_out[0]


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
        (lambda v: v.update(format=0), "field 'format' is '0'"),
        (lambda v: v.pop("seed"), "field 'seed' is missing, expected a whole number"),
        (lambda v: v.update(seed=True), "field 'seed' is 'True', expected a whole number"),
        (lambda v: v.update(sed=1), "unknown field 'sed'; did you mean 'seed'"),
        (lambda v: v.update(system=3), "field 'system' is '3', expected a text"),
        (lambda v: v.update(metrics=[]), "field 'metrics' is '\\[\\]', expected an object"),
        (lambda v: v.update(metrics={}), "field 'metrics': it has no metrics"),
        (lambda v: v.update(metrics={"test": 3}), "field 'metrics': they are not those of retri"),
        (
            lambda v: v["metrics"]["test"]["parallel"]["mean"].pop("recall@5"),
            "field 'metrics.test.parallel.mean.recall@5': expected a number, found nothing",
        ),
        (
            lambda v: v["metrics"]["test"]["parallel"]["mean"].update({"recall@5": float("nan")}),
            "field 'metrics.test.parallel.mean.recall@5' is nan",
        ),
        (lambda v: v["metrics"]["test"].pop("parallel"), "it has no metric of parallel"),
        (lambda v: v.update(task="singing"), "field 'task': no table for the task 'singing'"),
    ],
)
def test_a_bad_result_is_left_out_and_named(
    tmp_path: Path, break_it: Callable[[Any], None], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against figures that vanish, one file that stops the board, and a silent --check."""
    good = write_result(RECALLED, tmp_path / "good.json")
    path = write_result(replace(RECALLED, seed=1), tmp_path / "one.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    break_it(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    board = gather([tmp_path], tmp_path)
    (line,) = board.left_out
    assert re.match(f"one.json: .*{named}", line)
    assert set(board.figures.source) >= {"good.json"}
    assert "one.json" in markdown(board, tmp_path).partition("# Left out")[2]
    assert main(["leaderboard", "--check", str(path)]) == 2
    assert re.search(named, capsys.readouterr().err)
    assert main(["leaderboard", "--check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}\n"


WRONG = [None, True, -1, 10**400, 1e300, "", "x\n|<b>`", "\ud800", [], {}, {"a": {"b": []}}]


@given(st.data())
def test_no_record_stops_the_board(data: st.DataObject) -> None:
    """Guards the board against any one value of a record that is wrong, missing or hostile."""
    home = ROOT / "benchmarks" / "results"
    names = ("stamps/keywords-speechclip_hybrid", "zerospeech/zerospeech-speechclip_plus")
    more = ("superb_mini/snips-speechclip_plus-seed0", "mini/clip", "mini/hubert")
    source = home / f"{data.draw(st.sampled_from(names + more))}.json"
    record = node = json.loads(source.read_text(encoding="utf-8"))
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        node = inner
    if data.draw(st.booleans()):
        del node[key]
    else:
        node[key] = data.draw(st.sampled_from(WRONG))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # The published tables take the most time.
        patch.setitem(LAYOUT, "published", {})
        write_result(RECALLED, Path(folder) / "good.json")
        (Path(folder) / "one.json").write_text(json.dumps(record), encoding="utf-8")
        paths = write_leaderboard(gather([Path(folder)], Path(folder)), Path(folder))
        assert all("good.json" in path.read_text(encoding="utf-8") for path in paths)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("X,1,2,3", "line 27, field 'QbE': it is missing"),
        (f"X{',1' * 12},slides,more", "line 27, field 'more': the header has no more fields"),
        (f"X{',1' * 11},nan,slides", "line 27, field 'superb_s': 'nan' is no number"),
        (f"X,five{',1' * 11},slides", "line 27, field 'PR': 'five' is no number"),
        ('X,"1', "line 2[67]"),
    ],
)
def test_a_damaged_published_row_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, named: str
) -> None:
    """Guards against one damaged row, or table, that stops the board or shifts its columns."""
    shutil.copytree(PUBLISHED, tmp_path / "published")
    with open(tmp_path / "published" / "superb.csv", "a", encoding="utf-8") as handle:
        handle.write(line + "\n")
    (tmp_path / "published" / "superb_reference_points.csv").write_bytes(b"task,\xff")
    monkeypatch.setattr(published, "PUBLISHED", tmp_path / "published")
    write_result(superb("speech_commands", acc=0.9), tmp_path / "own" / "ks.json")
    board = gather([tmp_path / "own"], tmp_path)
    assert len(board.left_out) == 2
    assert re.match(f"published/superb.csv {named}", board.left_out[0])
    assert "there are no scores" in board.left_out[1]
    assert {"WavLM Base", "speechclip_hybrid"} <= set(board.figures.system)
    assert "X" not in set(board.figures.system)


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
choose("search", "hubert base, fast"); found.few = systems("superb"); choose("search", "");
found.miniatures = systems("retrieval-mini");
found.own = systems("retrieval-own");
found.cut = [...document.querySelectorAll(".scroll")].filter(
  box => box.scrollWidth > box.clientWidth).map(box => box.firstChild.id);
found.overflow = document.documentElement.scrollWidth - window.innerWidth;
found.bars = [...document.querySelectorAll("#comparable figure .bar")].length;
found.unlinked = [...document.querySelectorAll("td:not(.name)")].filter(
  cell => cell.textContent && !cell.querySelector("a[href]")).length;
found.links = [...new Set([...document.querySelectorAll("td a")].map(
  a => a.getAttribute("href")))];
found.hostile = document.getElementById("mini").textContent.includes("<" + "/script>");
return found;
"""


def test_the_page_sorts_and_filters(tmp_path: Path) -> None:
    """Guards the page as a person uses it, with a name in it that would end a script."""
    mini = replace(RECALLED, mini=True, size="mini", system="x</script><b>y", corpus="stamps")
    write_result(mini, tmp_path / "a result#1.json")
    write_result(replace(RECALLED, corpus="own (walks)"), tmp_path / "own.json")
    for task in ("speech_commands", "libriphone"):  # with a partial score, the widest cell
        write_result(superb(task, acc=0.9, per=0.1), tmp_path / "superb" / f"{task}.json")
    _, _, path = write_leaderboard(gather([tmp_path], tmp_path), tmp_path)
    assert "://" not in re.sub(r'"https://[^"]*"', "", path.read_text(encoding="utf-8"))
    page = open_page(path, SCRIPT, width=1300)
    assert page.console_errors == ()
    found = page.value
    rising = [float(text) for text in found["rising"]]
    assert len(rising) == 26 and rising == sorted(rising)
    assert [float(text) for text in found["falling"]] == rising[::-1]
    asr = [float(text) for text in found["gaps"] if text]
    assert asr == sorted(asr) and found["gaps"][len(asr) :] == [""] * 4
    assert found["large"] == ["SpeechCLIP parallel", "SpeechCLIP cascaded"] * 2
    assert len(found["coco"]) == 5
    assert found["searched"] == [
        "WavLM Large",
        "WavLM Large (v1)",
        "WavLM Base+",
        "WavLM Base+ (v1)",
        "WavLM Base",
    ]
    assert found["few"] == [
        "HuBERT Base",
        "FaST-VGS+",
        "FaST-VGS+ (as in slides)",
        "HuBERT Base (as in slides)",
    ]
    assert found["own"] == ["speechclip_hybrid, parallel", "chance"]
    assert "own (walks)" not in found["comparable"]
    assert found["cut"] == [] and found["overflow"] <= 0
    assert open_page(path, SCRIPT, width=390).value["overflow"] <= 0
    assert found["miniatures"] == ["x</script><b>y, parallel", "chance"]
    assert found["hostile"] and "x</script>" not in found["comparable"]
    assert found["bars"] > 80
    assert found["unlinked"] == 0
    files = [link for link in found["links"] if not link.startswith("https://")]
    assert files and all((tmp_path / unquote(link)).is_file() for link in files)


def write_mteb(folder: Path, model: str, task: str, hits: dict[str, float]) -> Path:
    """Write a result as mteb does; figures that are no recall here are there too."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"name": model, "revision": "main", "experiment_kwargs": None}
    (folder / "model_meta.json").write_text(json.dumps(about), encoding="utf-8")
    scores = {"hf_subset": "default", "recall_at_1": 0.1, "recall_at_5": 0.2, **hits}
    values = {"task_name": task, "mteb_version": "2.26.24", "scores": {"test": [scores]}}
    path = folder / f"{task}.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_result_of_mteb_stands_beside_the_published(tmp_path: Path) -> None:
    """Guards corpus, system and size of mteb's names, and recall, which mteb calls hit rate."""
    ours, other = "speechclip/models/large/coco/parallel", "somebody/omni"
    for model in (ours, other):
        for way, share in (("A2I", 0.2), ("I2A", 0.4)):
            hits = {f"hit_rate_at_{k}": share + k / 100 for k in (1, 5, 10)}
            write_mteb(tmp_path / model, model, f"SpokenCOCO{way}Retrieval", hits)
    write_mteb(tmp_path / ours, ours, "STS12", {"spearman": 0.5})
    board = gather([tmp_path], tmp_path)
    assert not board.left_out
    table = ranked(RETRIEVAL, board.figures[board.figures.part == COMPARABLE])
    rows = {
        who["system"]: (who["size"], row.value.to_dict())
        for who, row in rows_of(table)
        if who["corpus"] == "SpokenCOCO" and not who["published"]
    }
    assert rows.keys() == {"speechclip_parallel", other}
    size, cells = rows["speechclip_parallel"]
    assert size == "large" and rows[other][0] == ""
    assert cells["S2I R@10"] == pytest.approx(30) and cells["I2S R@5"] == pytest.approx(45)
    assert cells["mean R@10"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("hits", "named"), [({}, "hit_rate_at_1"), ({"hit_rate_at_1": "many"}, "field 'scores'")]
)
def test_a_damaged_result_of_mteb_is_named(hits: dict, named: str, tmp_path: Path) -> None:
    path = write_mteb(tmp_path, "somebody/omni", "SpokenCOCOA2IRetrieval", hits)
    with pytest.raises(ResultError, match=named):
        check(path)
    path.with_name("model_meta.json").unlink()
    assert len(gather([tmp_path], tmp_path).left_out) == 1
