"""s3prl's own runner, in an environment of its own, to measure this project beside.

`python -m s3prl_speechclip.benchmarks.shared.s3prl_peer FOLDER` makes the environment, 5 GB, and
prints its Python, which `run_benchmark.py speed --against-s3prl` takes. That runner does not start
on the PyTorch that this project needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from s3prl_speechclip.errors import ConfigError

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


if __name__ == "__main__":
    sys.stdout.write(f"{make_environment(parser().parse_args().folder)}\n")
