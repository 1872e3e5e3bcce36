"""A user's request, as the command line or a program makes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import LARGEST_SEED, parse_device
from ..errors import ConfigError

RESULTS = Path("result") / "downstream"  # where experiments lie by default
SWEEP = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # learning rates that SUPERB allows to choose from on dev
DEFAULTS: Mapping[str, Any] = {
    "task": "fluent_commands",
    "upstream": "speechclip_hybrid",
    "selection": "hidden_states",
    "normalize": False,
    "trainable": False,
    "seed": 1337,
}


def _option(form: str, text: str, **settings: Any) -> Any:
    """Declare a field by its option of the command line; the letters and names are s3prl's.

    Args:
        form: see `add_option`.
        text: description; `{tasks}` stands for the names of the tasks.
        settings: others of `ArgumentParser.add_argument`.
    """
    default = settings.pop("default", None)
    return field(default=default, metadata={"form": form, "text": text, "settings": settings})


@dataclass(frozen=True, kw_only=True)
class Request:
    """A user's request; None where nothing was given."""

    upstream: str | None = _option(
        "-u --upstream NAME", f"any of s3prl's upstreams (default: {DEFAULTS['upstream']})"
    )
    checkpoint: str | None = _option(
        "-k --upstream_ckpt CKPT",
        "its weights: experiment or checkpoint folder, official .ckpt, Hub id, mini (default: the "
        "newest pretraining run of that name, else the mini model)",
    )
    upstream_config: str | None = _option(
        "-g --upstream_model_config FILE", "its own configuration"
    )
    task: str | None = _option(
        "-d --downstream TASK",
        f"{{tasks}}, or another of s3prl's with -c (default: {DEFAULTS['task']})",
    )
    variant: str | None = _option("-v --downstream_variant NAME", "such as fold2 of emotion")
    config: Path | None = _option(  # noqa: RUF009 - a field
        "-c --config FILE", "configuration of the task (default: SUPERB's)", type=Path
    )
    override: str = _option(
        "-o --override K=V",
        "changes, such as runner.total_steps=50,,optimizer.lr=1e-3",
        default="",
    )
    name: str | None = _option("-n --expname NAME", "experiment name (default: <upstream>-<task>)")
    folder: Path | None = _option(  # noqa: RUF009 - a field
        "-p --expdir DIR", f"experiment folder (default: {RESULTS}/<name>)", type=Path
    )
    past: Path | None = _option(  # noqa: RUF009 - a field
        "-e --past_exp PATH",
        "experiment folder, or a checkpoint in it, to continue or to evaluate",
        type=Path,
    )
    auto_resume: bool = _option(
        "-a --auto_resume",
        "continue from the newest checkpoint in the experiment folder, or begin at step 0 where "
        "there is none; suits jobs that a cluster starts again",
        default=False,
    )
    evaluate: bool = False
    """Test what was trained, without training."""
    splits: tuple[str, ...] = _option(
        "-t --evaluate_split SPLIT",
        "split of -m evaluate; may be given again (default: the task's test splits)",
        action="append",
        default=(),
    )
    trainable: bool | None = _option("-f --upstream_trainable", "fine-tune the upstream too")
    selection: str | None = _option(
        "-s --upstream_feature_selection NAME",
        f"entry of the upstream's output (default: {DEFAULTS['selection']}, weighted)",
    )
    layer: int | None = _option("-l --upstream_layer_selection N", "one state of those, from 0")
    normalize: bool | None = _option(
        "--upstream_feature_normalize",
        "layer-normalise states before they are weighted",
    )
    data_root: str | None = _option(
        "--data-root DIR", "folder of the corpus (default: the mini set)"
    )
    archive: str | None = _option(
        "--archive FILE", "Debian packages (.deb) of the mini set, where apt cannot fetch them"
    )
    sweep: tuple[float, ...] = _option(
        "--lr-sweep LR",
        "choose the learning rate on dev (without a list: "
        f"{' '.join(f'{rate:g}' for rate in SWEEP)})",
        type=float,
        nargs="*",
        default=(),
    )
    cache: str | None = _option(
        "--cache KIND",
        "features of a frozen upstream kept on disk: means over time (pooled), frames, or off "
        "(default: auto, the first that the head and the budget allow)",
        choices=("auto", "pooled", "frames", "off"),
    )
    seed: int | None = _option(
        "--seed N",
        f"seed of the probe's weights, batches and dropout (default: {DEFAULTS['seed']})",
    )
    device: str = _option(
        "--device DEVICE",
        "auto, cpu, cuda or cuda:N (default: auto)",
        type=parse_device,
        default="auto",
    )

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"--seed must be 0 to {LARGEST_SEED}, found {self.seed}")
        if any(not rate > 0 for rate in self.sweep):
            raise ConfigError(f"--lr-sweep: learning rates are above 0, found {min(self.sweep)}")


KEPT = (*DEFAULTS, "checkpoint", "upstream_config", "layer", "variant")
S3PRL: Mapping[str, str] = {
    option.name: re.findall(r"--(\w+)", option.metadata["form"])[-1]
    for option in fields(Request)
    if option.name in KEPT
}
"""s3prl's names of the fields that a checkpoint keeps."""
LETTERS: Mapping[str, str] = {
    option.name: option.metadata["form"].split()[0]
    for option in fields(Request)
    if option.name in KEPT
}
"""Their options on the command line."""
