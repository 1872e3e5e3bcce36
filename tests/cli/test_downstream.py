"""`run_downstream.py` as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TORCHRUN

from s3prl_speechclip.cli.downstream import command, downstream_table, main
from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.minis.training.report import superb_table
from s3prl_speechclip.results import read_result
from s3prl_speechclip.structures import TaskResult

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("S3PRL_SPEECHCLIP_KILLS", "2"))  # moments; more in a long test
SETTINGS = "runner.num_workers=0,,runner.log_step=1,,downstream_expert.datarc.train_batch_size=4"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fluent Speech Commands of a few files, and a cache of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = ROOT / "tests" / "downstream" / "conftest.py"
    spec = importlib.util.spec_from_file_location("few_files", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "corpus").mkdir()
    module.fluent_commands(tmp_path / "corpus")
    return tmp_path / "corpus"


def options(corpus: Path, folder: Path, steps: int) -> list[str]:
    return [
        "-u",
        "fbank_no_cmvn",
        "-d",
        "ic",
        "--data-root",
        str(corpus),
        "-p",
        str(folder),
        "-o",
        f"{SETTINGS},,runner.total_steps={steps}",
        "--device",
        "cpu",
    ]


def test_two_processes_train_what_one_does(corpus: Path, tmp_path: Path):
    """Guards DDP under torchrun: the whole batch, its mean, and one result with its path last.

    The 7 recordings of the test split are measured once each, by the first process.
    """
    table = corpus / "data" / "test_data.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    alone = command([*options(corpus, tmp_path / "one", 5)])
    assert alone == tmp_path / "one" / "result.json"
    done = subprocess.run(
        [*TORCHRUN, str(ROOT / "run_downstream.py"), *options(corpus, tmp_path / "two", 5)],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == str(tmp_path / "two" / "result.json")
    assert "fluent_commands" in done.stdout
    one, two = (read_result(tmp_path / name / "result.json") for name in ("one", "two"))
    assert (one.protocol["processes"], two.protocol["processes"]) == (1, 2)
    for split, metrics in one.metrics.items():  # the losses of weights that are rounded otherwise
        assert two.metrics[split] == pytest.approx(metrics, rel=1e-4)
    measured = [(tmp_path / name / "test_truth.csv").read_text() for name in ("one", "two")]
    assert measured[0] == measured[1] and len(measured[1].splitlines()) == 7
    states = [
        torch.load(tmp_path / name / "states-5.ckpt", weights_only=False) for name in ("one", "two")
    ]
    for name, value in states[0]["Downstream"].items():
        # Sums over two processes are rounded otherwise than sums over one.
        torch.testing.assert_close(states[1]["Downstream"][name], value, atol=1e-5, rtol=1e-4)


def test_a_mistake_is_one_line(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Guards against a traceback where s3prl would take another feature instead."""
    assert main([*options(corpus, tmp_path / "run", 1), "-s", "hidden_state"]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("error: -s: unknown feature 'hidden_state'")
    assert not printed.out


def result(task: str, system: str, **test: float) -> TaskResult:
    return TaskResult(
        task=task,
        system=system,
        size="mini",
        corpus=f"{task}_mini",
        checkpoint="",
        checkpoint_hash="",
        metrics={"dev": test, "test": test},
        protocol={"metric": next(iter(test))},
        seed=0,
        versions={},
        wall_time=120.0,
        mini=True,
    )


def test_a_mini_result_says_so_in_tables():
    table = downstream_table([result("fluent_commands", "fbank", acc=0.5)])
    assert "acc 0.5000" in table and "[mini: not comparable" in table


def test_the_table_of_all_has_a_row_an_upstream():
    """Guards against scores in another column, and says what is missing."""
    text = superb_table(
        [
            result("snips", "speechclip_plus", slot_type_f1=0.25, slot_value_cer=0.75),
            result("quesst14_dtw", "speechclip_plus", maxTWV=0.0321),
            result("libriphone", "fbank_no_cmvn", per=0.5),
        ]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["speechclip_plus", "-", "25.0", "75.0", "-", "-", "0.032", "4"] in rows
    assert ["fbank_no_cmvn", "-", "-", "-", "50.0", "-", "-", "2"] in rows


def test_bold_is_what_seeds_cannot_explain():
    """Guards bold against the luck of a seed, and against the wrong direction of an error rate."""
    figures = {"good": (0.10, 0.11, 0.12), "next": (0.30, 0.31, 0.32), "noisy": (0.2, 0.5, 0.9)}

    def table(*systems: str) -> str:
        results = [
            replace(result("libriphone", name, per=per), seed=seed)
            for name in systems
            for seed, per in enumerate(figures[name])
        ]
        return superb_table(results)

    assert "over 3 seeds" in table("good", "next")
    assert "**11.0 ± 1.0**" in table("good", "next") and "**31" not in table("good", "next")
    assert "**" not in table("next", "noisy")
    one = [
        result("quesst14_dtw", n, maxTWV=v, maxTWV_error=0.05) for n, v in (("a", 0.3), ("b", 0.1))
    ]
    assert "**0.300 ± 0.050**" in superb_table(one)
    assert "**" not in superb_table([result("quesst14_dtw", n, maxTWV=0.3) for n in "ab"])


def test_results_are_read_back(corpus: Path, tmp_path: Path):
    """Guards the result file and --out."""
    out = tmp_path / "here.json"
    assert command([*options(corpus, tmp_path / "run", 1), "--out", str(out)]) == out
    found = read_result(out)
    assert found.system == "fbank_no_cmvn" and found.metrics["test"].keys() >= {"acc"}
    assert found.protocol["optimizer"]["lr"] == 1e-4


def test_an_evaluation_of_dev_leaves_the_test_result(corpus: Path, tmp_path: Path):
    """Guards the result on test against being overwritten by a partial one."""
    folder = tmp_path / "run"
    whole = command(options(corpus, folder, 1))
    assert whole == folder / "result.json"
    before = whole.read_bytes()
    part = command(["-m", "evaluate", "-e", str(folder), "-t", "dev", "--device", "cpu"])
    assert part == folder / "result-dev.json"
    assert read_result(part).metrics.keys() == {"dev"}
    assert whole.read_bytes() == before


def test_a_killed_run_resumes_to_the_same_weights(corpus: Path, tmp_path: Path):
    """Guards against a SIGKILL at any moment; the first is inside the writing of a checkpoint."""
    moments = random.Random(0)
    steps, changes = 12 * KILLS + 50, ",,runner.save_step=1,,runner.max_keep=2"
    whole = options(corpus, tmp_path / "whole", steps)
    command([word + changes if word.startswith(SETTINGS) else word for word in whole])
    killed = options(corpus, tmp_path / "killed", steps)
    killed = [word + changes if word.startswith(SETTINGS) else word for word in killed]
    program = (
        "import os, torch; save = torch.save\n"
        "def stop(values, path):\n"
        "    save(values, path)\n"
        "    if values['Step'] == 4: os.truncate(path, 1000); os.kill(os.getpid(), 9)\n"
        "torch.save = stop\n"
        "from s3prl_speechclip.cli.downstream import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *killed], capture_output=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.stat().st_size for path in (tmp_path / "killed").glob("*4.ckpt*")] == [1000]
    for number in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_downstream.py"), *killed, "-a"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        earliest = 5 + 12 * number
        while process.poll() is None and not any(
            (tmp_path / "killed" / f"states-{step}.ckpt").exists()
            for step in range(earliest, steps)
        ):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.wait()
    assert not (tmp_path / "killed" / f"states-{steps}.ckpt").exists()
    command([*killed, "-a"])
    one, other = (
        torch.load(tmp_path / name / f"states-{steps}.ckpt", weights_only=False)["Downstream"]
        for name in ("whole", "killed")
    )
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(corpus: Path, tmp_path: Path):
    """Guards the last good checkpoint and the one line; the limit is on a file's size."""
    argv = options(corpus, tmp_path / "run", 2)
    command(argv)
    newest = tmp_path / "run" / "states-2.ckpt"
    before = newest.read_bytes()
    program = (
        "import resource, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from s3prl_speechclip.cli.downstream import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *options(corpus, tmp_path / "run", 4), "-a"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: cannot write the checkpoint")
    assert "Traceback" not in done.stderr
    assert newest.read_bytes() == before
    assert not list((tmp_path / "run").glob("*.partial"))


def test_help_is_fast(tmp_path: Path):
    """Guards the declarations of tasks, corpora and mini sets against importing what computes."""
    program = (
        "import sys\nfrom s3prl_speechclip.cli.downstream import parser\n"
        "assert 'emotion (er)' in ' '.join(parser().format_help().split())\n"
        "print(*{'torch', 's3prl', 'transformers', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not done.stdout.strip()
