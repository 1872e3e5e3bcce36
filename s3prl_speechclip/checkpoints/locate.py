"""Which trained model a name means, and what its files hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download

from ..encoders.shipped import ASSETS
from ..errors import CheckpointError
from ..hashing import file_hash
from ..model.config import find_variant
from .native import CONFIG_FILE, WEIGHTS_FILE, StoredModel, find_checkpoint, read_checkpoint
from .official import is_official, read_official

RESULTS = Path("result") / "pretrain"  # where runs lie by default, below the working directory
RUN_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Located:
    """A trained model that was found."""

    source: str
    """What `SpeechClip.from_pretrained` takes."""
    reason: str
    """How it was chosen, for people."""

    def digest(self) -> str:
        """Give the SHA-256 of the file that holds the weights; empty for a Hub id."""
        path = Path(self.source)
        if path.is_dir():
            return file_hash(find_checkpoint(path) / WEIGHTS_FILE)
        return file_hash(path) if path.is_file() else ""


def locate_model(name: str, checkpoint: str | None = None, results: Path = RESULTS) -> Located:
    """Find the trained model of a name.

    Args:
        name: hub name of the model.
        checkpoint: what `-k` said, or None: the newest pretraining run of that name, else the
            mini model that the package ships.
        results: folder of pretraining runs.

    Raises:
        ConfigError: no model has that name.
        CheckpointError: there is no trained model of that name.
    """
    find_variant(name)
    if checkpoint is not None:
        return Located(checkpoint, "as given")
    runs = [folder for folder in results.glob("*") if _variant(folder) == name]
    if runs:
        newest = max(runs, key=lambda folder: (folder / "last" / CONFIG_FILE).stat().st_mtime_ns)
        return Located(str(newest), "the newest pretraining run of that name")
    shipped = ASSETS / name
    if shipped.is_dir():
        return Located(str(shipped), "the mini model that the package ships")
    raise CheckpointError(
        f"there is no trained {name} in '{results}': train one with "
        f"'python run_pretrain.py -u {name}', or give one with -k"
    )


def read_stored(source: str | Path, **hub: Any) -> StoredModel:
    """Read whatever `-k` names.

    Args:
        source: an experiment or checkpoint folder, an official .ckpt, or a Hub id.
        **hub: passed on to huggingface_hub's download.

    Raises:
        CheckpointError: there is no such thing, or it cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return read_checkpoint(find_checkpoint(path))
    if path.is_file():
        if is_official(path):
            return read_official(path)
        raise CheckpointError(
            f"'{path}' is neither a checkpoint folder nor an official SpeechCLIP .ckpt"
        )
    try:
        folder = snapshot_download(str(source), allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **hub)
    except Exception as error:
        # The Hub client raises many kinds for one cause: there is no such checkpoint to be had.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"no checkpoint '{source}': no such folder or file, and not to be had from the Hub "
            f"({reason})"
        ) from error
    return read_checkpoint(Path(folder))


def _variant(folder: Path) -> str | None:
    if not (folder / "last" / CONFIG_FILE).is_file() or not (folder / RUN_CONFIG).is_file():
        return None
    try:
        values = yaml.safe_load((folder / RUN_CONFIG).read_text(encoding="utf-8"))
        return str(values["model"]["variant"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
