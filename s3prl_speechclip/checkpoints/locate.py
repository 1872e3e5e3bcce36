"""Find trained models: pretraining runs by name, and the models that the package ships."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..encoders.shipped import ASSETS, SHIPPED
from ..errors import CheckpointError
from ..hashing import file_hash
from ..model.config import VARIANTS, find_variant
from .released import RELEASED, find_released

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
RUN_CONFIG = "config.yaml"
RESULTS = Path("result") / "pretrain"  # default folder of runs, below the working directory
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.ckpt)")


@dataclass(frozen=True)
class Located:
    """A trained model that was found."""

    source: str
    """Argument of `checkpoints.read` and `SpeechClip.from_pretrained`."""
    reason: str
    """Why it was chosen, for people."""

    def digest(self) -> str:
        """Return the SHA-256 of the file that holds the weights; empty for a Hub id."""
        released = RELEASED.get(self.source)
        path = released.download() if released else Path(self.source)
        if path.is_dir():
            return file_hash(find_checkpoint(path) / WEIGHTS_FILE)
        return file_hash(path) if path.is_file() else ""


def locate_model(name: str, checkpoint: str | None = None, results: Path = RESULTS) -> Located:
    """Find the trained model of a name.

    Args:
        name: hub name of the model.
        checkpoint: value of `-k`; `mini` or a hub name: the shipped model. None: the newest
            pretraining run of that name, else the shipped mini model.
        results: folder of pretraining runs.

    Raises:
        ConfigError: no model has that name.
        CheckpointError: there is no trained model of that name.
    """
    find_variant(name)
    if checkpoint is not None:
        return _as_given(name, checkpoint)
    runs = [folder for folder in results.glob("*") if _variant(folder) == name]
    if runs:
        newest = max(runs, key=lambda run: (_last(run) / CONFIG_FILE).stat().st_mtime_ns)
        return Located(str(newest), "the newest pretraining run of that name")
    try:
        return Located(str(shipped_model(name)), "the mini model that the package ships")
    except CheckpointError:
        raise CheckpointError(
            f"there is no trained {name} in '{results}': train one with "
            f"'python run_pretrain.py -u {name}', or give one with -k"
        ) from None


def check_source(source: str | Path) -> None:
    """Check that there can be a checkpoint where a source says, without importing torch.

    Args:
        source: argument of `checkpoints.read`.

    Raises:
        CheckpointError: a folder or file that holds none, or a name that none can have.
    """
    path, name = Path(source), str(source)
    if path.is_dir():
        find_checkpoint(path)
    elif path.is_file():
        if not is_official(path):
            raise CheckpointError(
                f"'{path}' is neither a checkpoint folder nor an official SpeechCLIP .ckpt"
            )
    elif name == SHIPPED:
        raise CheckpointError(
            f"'{SHIPPED}' is not one model: name one that the package ships ({', '.join(VARIANTS)})"
        )
    elif name not in VARIANTS and find_released(name) is None and not is_hub_id(name):
        raise CheckpointError(
            f"no checkpoint '{name}': it is no file or folder, no model that the package ships "
            f"({', '.join(VARIANTS)}), no released one (python -m s3prl_speechclip.checkpoints "
            "list) and no OWNER/NAME of the Hub; check its spelling"
        )


def is_hub_id(name: str) -> bool:
    """Return whether a name that is no file or folder may be a model's on the Hub."""
    folder = Path(name).parent  # where it is there, a file in it is meant
    return HUB_ID.fullmatch(name) is not None and not folder.is_dir()


def is_official(path: Path) -> bool:
    """Return whether a file may be an official checkpoint: an archive written by torch.save."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def shipped_model(name: str) -> Path:
    """Return the folder of a model that the package ships.

    Raises:
        CheckpointError: the installation lacks it.
    """
    folder = ASSETS / name
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"the package ships no {name}: '{folder}' is missing")
    return folder


def find_checkpoint(path: Path) -> Path:
    """Find the checkpoint folder that a path means.

    Args:
        path: a checkpoint folder, or an experiment folder, of which the best checkpoint is taken,
            else the last, else the newest.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path, _best(path), *_newest_first(path)):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise CheckpointError(
        f"'{path}' holds no checkpoint: expected {CONFIG_FILE} in it, or a folder best/ or last/"
    )


def _as_given(name: str, checkpoint: str) -> Located:
    if not Path(checkpoint).exists():
        shipped = ASSETS / (name if checkpoint == SHIPPED else checkpoint)
        if (shipped / CONFIG_FILE).is_file():
            return Located(str(shipped), "the mini model that the package ships")
    check_source(checkpoint)
    return Located(checkpoint, "as given")


def _newest_first(run: Path) -> list[Path]:
    # A copied run may have lost its links: then its step folders remain, named by their number.
    # What a killed run was writing is named otherwise.
    steps = [f for f in run.glob("step-*") if f.name.removeprefix("step-").isdigit()]
    return [run / "last", *sorted(steps, reverse=True)]


def _best(run: Path) -> Path:
    """Return the folder of a run's best checkpoint, by its link or else by the newest one."""
    if (run / "best" / CONFIG_FILE).is_file():
        return run / "best"
    try:
        config = json.loads((_last(run) / CONFIG_FILE).read_text(encoding="utf-8"))
        return run / f"step-{config['about']['best_step']:08d}"
    except (OSError, ValueError, KeyError, TypeError):
        return run / "best"


def _last(run: Path) -> Path:
    return next((f for f in _newest_first(run) if (f / CONFIG_FILE).is_file()), run / "last")


def _variant(run: Path) -> str | None:
    if not (_last(run) / CONFIG_FILE).is_file() or not (run / RUN_CONFIG).is_file():
        return None
    try:
        values = yaml.safe_load((run / RUN_CONFIG).read_text(encoding="utf-8"))
        return str(values["model"]["variant"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
