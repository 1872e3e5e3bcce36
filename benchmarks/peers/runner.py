"""s3prl's own runner, in an environment of its own, to measure this project beside.

`python -m s3prl_speechclip.benchmarks.peers.runner FOLDER` makes the environment, 5 GB, and
prints its Python, which `run_benchmark.py speed --against-s3prl` takes. That runner does not start
on the PyTorch that this project needs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s3prl_speechclip.errors import ConfigError

OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

PACKAGES = (
    *("torch==2.0.1", "torchaudio==2.0.2", "s3prl==0.4.18", "numpy<1.27", "scipy<1.12"),
    *("huggingface_hub==0.16.4", "transformers==4.30.2", "setuptools<70", "pandas<2.2"),
    *("dtw-python==1.3.0", "tensorboardX", "catalyst", "joblib", "lxml", "editdistance", "sox"),
    *("soundfile", "librosa", "pyyaml"),
)
POSITIONS = "encoder.pos_conv_embed.conv."
RENAMED = {
    f"{POSITIONS}parametrizations.weight.original0": f"{POSITIONS}weight_g",
    f"{POSITIONS}parametrizations.weight.original1": f"{POSITIONS}weight_v",
}


def make_environment(folder: Path) -> Path:
    """Make the environment, with uv; returns its Python.

    Raises:
        ConfigError: uv is not installed, or cannot do it.
    """
    python = folder / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    try:
        subprocess.run([*uv, "venv", "--python", "3.11", str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(python), *PACKAGES], check=True)
        # Of a later huggingface_hub; transformers does without.
        subprocess.run([*uv, "pip", "uninstall", "--python", str(python), "accelerate"], check=True)
        imports = "import s3prl.run_downstream, transformers.models.hubert.modeling_hubert"
        subprocess.run([str(python), "-c", imports], check=True)
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"'{' '.join(error.cmd[:5])} ..' failed; its own message is above"
        ) from error
    return python


def write_mini_hubert(folder: Path) -> Path:
    """Write the shipped HuBERT in a form that transformers 4 and 5 read, float32.

    Returns:
        The folder, for `-u hf_hubert_custom -k FOLDER` of either runner.
    """
    from safetensors.torch import load_file, save_file

    from s3prl_speechclip.encoders.shipped import shipped_folder

    shipped = shipped_folder("hubert")
    config = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    config.pop("dtype")
    state = load_file(shipped / "model.safetensors")
    state = {RENAMED.get(name, name): value.float() for name, value in state.items()}
    extractor: dict[str, Any] = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,  # as it was trained
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor), encoding="utf-8")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def parser() -> argparse.ArgumentParser:
    """Build the parser of the options."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the environment")
    return p


def run_command(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[float, int]:
    """Run a command; what it writes is kept in `folder/log.txt`.

    Returns:
        Its seconds, and the peak of its own memory, MiB.

    Raises:
        ConfigError: it cannot be run, or fails.
    """
    folder.mkdir(exist_ok=True)
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        except OSError as error:
            raise ConfigError(f"'{command[0]}' cannot be run: {error.strerror}") from error
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ConfigError(f"'{' '.join(command[:4])} ..' failed: {' '.join(last)}")
    return time.perf_counter() - start, round(usage.ru_maxrss / 1024)


def without_openmp() -> dict[str, str]:
    """Return the environment without settings of OpenMP's waiting threads."""
    return {name: value for name, value in os.environ.items() if name not in OPENMP}


def run_s3prl(
    python: str, task: str, hubert: Path, folder: Path, runner: Mapping[str, Any], seed: int = 0
) -> tuple[float, int]:
    """Run a task on its mini set by s3prl's own runner, with this project's configuration of it.

    Args:
        python: of s3prl's environment.
        task: fluent_commands or speech_commands.
        hubert: see `write_mini_hubert`.
        folder: receives `run`, s3prl's folder of the experiment.
        runner: settings of its section `runner`.
        seed: s3prl's.

    Returns:
        See `run_command`.
    """
    import yaml

    from s3prl_speechclip.config import merge, read_yaml
    from s3prl_speechclip.downstream.settings import config_folder
    from s3prl_speechclip.downstream.task import EXPERT, find_task
    from s3prl_speechclip.downstream.tasks.speech_commands import CLASSES_FILE
    from s3prl_speechclip.minis import mini_set

    mini = mini_set(task)
    config = merge(read_yaml(config_folder() / f"{task}.yaml"), dict(mini.config))
    layout = find_task(task).layout
    assert layout is not None, "a task of SUPERB's"
    config[EXPERT] = merge(config[EXPERT], dict(layout.place(mini.root)))
    config[EXPERT]["datarc"]["num_workers"] = 0
    config["runner"] |= {**runner, "eval_dataloaders": ["dev", "test"]}
    folder.mkdir()
    settings = folder / "task.yaml"
    settings.write_text(yaml.safe_dump(config), encoding="utf-8")
    words = mini.root / CLASSES_FILE
    code = "import runpy\n"
    if words.is_file():  # a constant of s3prl's module
        classes = words.read_text(encoding="utf-8").split()
        code += "from s3prl.downstream.speech_commands import dataset\n"
        code += f"dataset.CLASSES[:] = {classes}\n"
    code += "runpy.run_module('s3prl.run_downstream', run_name='__main__', alter_sys=True)"
    command = [python, "-c", code, "-m", "train", "-u", "hf_hubert_custom", "-k", str(hubert)]
    command += ["-d", task, "--device", "cpu", "--seed", str(seed)]
    command += ["-c", str(settings), "-p", str(folder / "run")]
    return run_command(command, folder, without_openmp())


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{make_environment(parser().parse_args().folder)}\n")
    except ConfigError as failure:
        parser().error(str(failure))
