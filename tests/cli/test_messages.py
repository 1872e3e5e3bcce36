"""A user's mistakes, as the command line reports them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_speechclip.benchmarks.shared.benchmark import benchmark_titles

CASES = {
    "unknown model": (["-u", "speechclip_hybird"], "did you mean 'speechclip_hybrid'"),
    "unknown corpus": (["--data", "flickr8"], "did you mean 'flickr8k'"),
    "no place of a corpus": (["--data", "spokencoco"], "--data-root"),
    "a corpus that is not there": (["--data", "flickr8k", "--data-root", "nowhere"], "nowhere"),
    "unknown key": (["-o", "runner.total_step=5"], "did you mean 'total_steps'"),
    "not an override": (["-o", "total_steps"], "section.key=value"),
    "unknown preset": (["-g", "hgue"], "mini"),
    "a past run that is not there": (["-e", "nowhere"], "nowhere"),
    "a device that is not there": (["--device", "cuda:99"], "CUDA devices"),
    "no device at all": (["--device", "gpu"], "auto, cpu, cuda"),
    "heads that do not divide the width": (
        ["--dry-run", "-o", "model.attention.heads=3"],
        "must divide",
    ),
    "a temperature of zero": (["--dry-run", "-o", "model.objective.temperature=0"], "above 0"),
    "a loss with a negative weight": (
        ["--dry-run", "-o", "model.objective.repetition_weight=-1"],
        "at least 0, found -1",
    ),
    "an encoder that cannot be": (
        [
            "--dry-run",
            "-g",
            "mini_scratch",
            "-o",
            "model.speech_encoder.architecture.num_attention_heads=3",
        ],
        "architecture",
    ),
    "a layer without width": (
        ["--dry-run", "-o", "model.attention.feedforward=-1"],
        "model.attention.feedforward must be at least 1",
    ),
    "a layer of the projection without width": (
        ["--dry-run", "-o", "model.keywords.projection=[-3]"],
        "model.keywords.projection must be at least 1",
    ),
    "no layer in the weight network": (
        ["--dry-run", "-o", "model.cif.conv_layers=-1"],
        "model.cif.conv_layers must be at least 1",
    ),
    "a row that the vocabulary lacks": (
        ["--dry-run", "-o", "model.keywords.banned_rows=[99999]"],
        "rows of the vocabulary",
    ),
    "a name too long": (["-i", "n" * 300], "longer than file systems allow"),
    "betas out of range": (["-o", "optimizer.betas=[2,3]"], "below 1"),
    "a negative seed": (["--seed", "-1"], "seed"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_status_2(
    case: str,
    root: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards against tracebacks, and messages without a remedy."""
    from s3prl_speechclip.cli.pretrain import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("S3PRL_SPEECHCLIP_DATA", raising=False)
    argv, said = CASES[case]
    assert main(argv) == 2
    out, err = capfd.readouterr()
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in err
    assert not out


@pytest.mark.parametrize("script", ["run_pretrain.py", "run_benchmark.py"])
def test_the_scripts_of_the_checkout_start(script: str, root: Path) -> None:
    """Guards the commands as the documentation writes them."""
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "usage" in done.stdout


def test_a_dry_run_counts_the_published_parameters(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards the sizes against the published range, 2.8-7.5 M for base and 6.1-13.4 M for large."""
    from s3prl_speechclip.cli.pretrain import main

    found = {}
    for size, name in (
        ("base", "cascaded"),
        ("base", "parallel"),
        ("large", "cascaded"),
        ("large", "parallel"),
    ):
        assert main(["--dry-run", "-g", size, "-u", f"speechclip_{name}"]) == 0
        total = capfd.readouterr().out.splitlines()[-1].split()
        found[size, name] = round(int(total[-1].replace(",", "")) / 1e6, 1)
    assert found == {
        ("base", "cascaded"): 2.8,
        ("base", "parallel"): 7.5,
        ("large", "cascaded"): 6.1,
        ("large", "parallel"): 13.4,
    }


HEAVY = {"torch", "s3prl", "transformers", "lightning", "open_clip", "sklearn", "scipy", "pandas"}
QUICK = {
    **{
        f"help of {name}": ("cli.benchmark", [name, "--help"], "usage: run_")
        for name in benchmark_titles()
    },
    **{
        f"help of {room} {' '.join(words)}": (f"{room}.__main__", [*words, "--help"], "usage: ")
        for room, commands in (
            ("data", ("check", "prepare", "cache")),
            ("checkpoints", ("list", "convert")),
            ("minis", ("demo", "make", "superb")),
        )
        for words in ([], *([command] for command in commands))
    },
    "help of pretraining": ("cli.pretrain", ["--help"], "usage: run_"),
    "help of downstream": ("cli.downstream", ["--help"], "usage: run_"),
    "help of make readme": ("cli.readme", ["--help"], "usage: "),
    "help of benchmarks": ("cli.benchmark", ["--help"], "usage: run_"),
    "a model": ("cli.pretrain", ["-u", "speechclip_hybird"], "did you mean 'speechclip_hybrid'"),
    "a corpus": ("cli.pretrain", ["--data", "flickr8"], "did you mean 'flickr8k'"),
    "a corpus' folder": (
        "cli.pretrain",
        ["--data", "flickr8k", "--data-root", "nowhere"],
        "/nowhere'",
    ),
    "a package": ("cli.pretrain", ["--archive", "no.deb"], "no file or folder 'no.deb'"),
    "a key": ("cli.pretrain", ["-o", "runner.total_step=5"], "did you mean 'total_steps'"),
    "an option": ("cli.pretrain", ["--overide", "a=b"], "unrecognized arguments"),
    "a past run": ("cli.pretrain", ["-e", "nowhere"], "no checkpoint 'nowhere'"),
    "initial weights": ("cli.pretrain", ["-i", "result"], "no checkpoint 'result'"),
    "a speech encoder": ("cli.pretrain", ["--hubert", "hubrt"], "--hubert: no folder 'hubrt'"),
    "CLIP's weights": (
        "cli.pretrain",
        ["-g", "base", "--clip", "no.pt"],
        "--clip: no file 'no.pt'",
    ),
    "CLIP's weights in a preset with its own": ("cli.pretrain", ["--clip", "no.pt"], "-g base"),
    "a device": ("cli.pretrain", ["--device", "gpu"], "auto, cpu, cuda"),
    "a task": ("cli.downstream", ["-u", "fbank", "-d", "fluent_comands"], "fluent_commands"),
    "an upstream": ("cli.downstream", ["-u", "fbnk"], "did you mean 'fbank'"),
    "an upstream of this package": (
        "cli.downstream",
        ["-u", "speechclip_pls"],
        "did you mean 'speechclip_plus'",
    ),
    "weights of another's upstream": ("cli.downstream", ["-u", "hubert_local"], "give them with"),
    "weights of an upstream": ("cli.downstream", ["-k", "no.ckpt"], "no checkpoint 'no.ckpt'"),
    "an upstream's configuration": ("cli.downstream", ["-g", "no.yaml"], "-g: no file 'no.yaml'"),
    "a task's configuration": ("cli.downstream", ["-c", "no.yaml"], "configuration 'no.yaml'"),
    "a key of a task": (
        "cli.downstream",
        ["-o", "downstream_expert.datarc.file_pat=x"],
        "did you mean 'downstream_expert.datarc.file_path'",
    ),
    "a key of a probe's runner": (
        "cli.downstream",
        ["-o", "runner.total_step=5"],
        "did you mean 'total_steps'",
    ),
    "a task's folder": ("cli.downstream", ["--data-root", "nowhere"], "/nowhere'"),
    "a past probe": ("cli.downstream", ["-e", "nowhere"], "no checkpoint of a downstream run"),
    "a probe's device": ("cli.downstream", ["--device", "gpu"], "auto, cpu, cuda"),
    "a benchmark": ("cli.benchmark", ["retreival"], "retrieval"),
    "a benchmark's model": (
        "cli.benchmark",
        ["words", "-u", "speechclip_pls"],
        "'speechclip_plus'",
    ),
    "a benchmark's corpus": ("cli.benchmark", ["retrieval", "--data", "flickr8"], "'flickr8k'"),
    "a benchmark's weights": (
        "cli.benchmark",
        ["keywords", "-k", "no.ckpt"],
        "no checkpoint 'no.ckpt'",
    ),
    "a benchmark's folder": (
        "cli.benchmark",
        ["spotting", "--data", "flickr8k", "--data-root", "nowhere"],
        "/nowhere'",
    ),
    "a folder to check": ("data.__main__", ["check", "nowhere"], "/nowhere'"),
    "a corpus to prepare": ("data.__main__", ["prepare", "flickr8", "--out", "x"], "'flickr8k'"),
    "a checkpoint to convert": ("checkpoints.__main__", ["convert", "no.ckpt", "x"], "'no.ckpt'"),
    "a released checkpoint": (
        "checkpoints.__main__",
        ["convert", "speechclip/models/large/flickr/paralel", "x"],
        "did you mean 'speechclip/models/large/flickr/parallel'",
    ),
    "a part of the miniatures": ("minis.__main__", ["make", "modls"], "models"),
    "a mini set's task": ("minis.__main__", ["superb", "-d", "icc"], "did you mean 'ic'"),
    "an upstream on mini sets": (
        "minis.__main__",
        ["superb", "-d", "ic", "-u", "speechclip_pls"],
        "did you mean 'speechclip_plus'",
    ),
}


@pytest.mark.parametrize("case", QUICK)
def test_help_and_typing_errors_import_nothing_heavy(case: str, tmp_path: Path):
    """Guards seconds of waiting for torch or s3prl before a line that needs neither."""
    module, argv, said = QUICK[case]
    program = (
        "import contextlib, io, sys\n"
        f"from s3prl_speechclip.{module} import main\n"
        "shown = io.StringIO()\n"
        "with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):\n"
        "    with contextlib.suppress(SystemExit):\n"
        f"        main({argv})\n"
        f"assert {said!r} in shown.getvalue(), shown.getvalue()\n"
        f"print(*{HEAVY} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip()
