"""What a user asked for, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import merge
from ..errors import CheckpointError, ConfigError
from .config import RunnerConfig, Task, find_task, override, read_task_config, runner_config
from .data import PlacedData, place_data, with_own_files
from .state import RunFolder, RunState, read_state

RESULTS = Path("result") / "downstream"  # where experiments lie by default


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for; None where nothing was said."""

    task: str | None = None
    upstream: str | None = None
    checkpoint: str | None = None
    upstream_config: str | None = None
    selection: str | None = None
    layer: int | None = None
    normalize: bool | None = None
    trainable: bool | None = None
    variant: str | None = None
    config: Path | None = None
    override: str = ""
    data_root: str | None = None
    archive: str | None = None
    name: str | None = None
    folder: Path | None = None
    past: Path | None = None
    auto_resume: bool = False
    evaluate: bool = False
    splits: tuple[str, ...] = ()
    """Of `-m evaluate`; empty: the configuration's."""
    sweep: tuple[float, ...] = ()
    """Learning rates to choose from on dev."""
    seed: int | None = None
    device: str = "auto"


DEFAULTS: Mapping[str, Any] = {
    "downstream": "fluent_commands",
    "upstream": "speechclip_hybrid",
    "upstream_ckpt": None,
    "upstream_model_config": None,
    "upstream_feature_selection": "hidden_states",
    "upstream_layer_selection": None,
    "upstream_feature_normalize": False,
    "upstream_trainable": False,
    "downstream_variant": None,
    "seed": 1337,
}
"""s3prl's arguments, and what they are where nothing is said; the names of the models are ours."""


@dataclass(frozen=True)
class Plan:
    """A request, resolved."""

    task: Task
    arguments: dict[str, Any]
    data: PlacedData
    runner: RunnerConfig
    folder: Path
    past: Path | None
    """Checkpoint to go on from or to evaluate."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run trains, beside its weights."""

    task: Task
    config: dict[str, Any]
    """Of the task, with its corpus in it."""
    arguments: dict[str, Any]
    """What s3prl's command line would hold."""
    selection: str
    layer: int | None
    rate: int
    """Samples to a frame of the upstream."""
    seed: int
    folder: Path
    """Of the experiment; it exists."""


def resolve(request: Request) -> Plan:
    """Put a request together with the experiment that it goes on from, and with defaults.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    past_file = _past(request)
    past = read_state(past_file) if past_file is not None else None
    arguments = _arguments(request, past)
    task = find_task(arguments["downstream"])
    folder = request.folder or (
        past_file.parent
        if past_file is not None and request.name is None
        else RESULTS / (request.name or f"{arguments['upstream']}-{task.name}")
    )
    own = RunFolder(folder)
    if request.evaluate and past_file is None and task.folder != "quesst14_dtw":
        past_file = own.best()
        if past_file is None:
            raise CheckpointError(
                f"-m evaluate needs a trained probe: '{folder}' holds none; name one with -e"
            )
        return resolve(replace(request, past=past_file))
    if not request.evaluate and past_file is None:
        refuse_overwriting(own, request.auto_resume)
    if past is not None:
        config, given = override(past.config, request.override)
        root = request.data_root
        if root is None:
            about = past.arguments.get("about") or {}
            data = PlacedData(
                config=with_own_files(config),
                corpus=about.get("corpus", task.name),
                root=about.get("root", "as configured"),
                mini=bool(about.get("mini")),
                notes=tuple(about.get("notes", ())),
            )
        else:
            data = place_data(task, config, given, root)
    else:
        base = read_task_config(task, request.config)
        config, given = override(base, request.override)
        placed = place_data(
            task,
            config,
            given,
            request.data_root,
            request.archive,
            own_config=request.config is not None,
        )
        # Once more, over the settings of the mini set.
        data = replace(placed, config=override(placed.config, request.override)[0])
    data = replace(data, config=_with_rate(data.config))
    arguments["expdir"] = str(folder)
    arguments["about"] = {
        "corpus": data.corpus,
        "root": data.root,
        "mini": data.mini,
        "notes": list(data.notes),
    }
    return Plan(task, arguments, data, runner_config(data.config), folder, past_file)


def refuse_overwriting(folder: RunFolder, auto_resume: bool) -> None:
    """Refuse to start where a run stands.

    Raises:
        ConfigError: one does, and it is not to be gone on with.
    """
    if folder.last() is not None and not auto_resume:
        raise ConfigError(
            f"'{folder.path}' already holds a run: go on with -a, name another with -n or -p, or "
            "remove it"
        )


def _past(request: Request) -> Path | None:
    """Find the checkpoint that `-e` or `-a` mean.

    Raises:
        CheckpointError: `-e` names nothing.
    """
    past = request.past
    if past is None and request.auto_resume:
        name = request.name or (
            f"{request.upstream or DEFAULTS['upstream']}-"
            f"{find_task(request.task or DEFAULTS['downstream']).name}"
        )
        return RunFolder(request.folder or RESULTS / name).last()
    if past is None:
        return None
    if past.is_file():
        return past
    own = RunFolder(past)
    found = own.best() if request.evaluate else own.last()
    if found is None:
        raise CheckpointError(f"-e: no checkpoint of a downstream run in '{past}'")
    return found


def _arguments(request: Request, past: RunState | None) -> dict[str, Any]:
    """Give s3prl's arguments: what was said, else the past experiment's, else the defaults.

    Raises:
        ConfigError: the past experiment is of another task or upstream.
    """
    said = {
        "downstream": find_task(request.task).name if request.task else None,
        "upstream": request.upstream,
        "upstream_ckpt": request.checkpoint,
        "upstream_model_config": request.upstream_config,
        "upstream_feature_selection": request.selection,
        "upstream_layer_selection": request.layer,
        "upstream_feature_normalize": request.normalize,
        "upstream_trainable": request.trainable,
        "downstream_variant": request.variant,
        "seed": request.seed,
    }
    said = {key: value for key, value in said.items() if value is not None}
    before = {k: v for k, v in (past.arguments if past else {}).items() if k in DEFAULTS}
    if past is not None and before.get("downstream") == "ctc":  # s3prl's own word for two tasks
        before["downstream"] = past.config["downstream_expert"]["corpus"]["name"]
    for key, letter in (("downstream", "-d"), ("upstream", "-u")):
        if key in before and key in said and said[key] != before[key]:
            raise ConfigError(
                f"{letter} {said[key]}, but the past experiment has {before[key]}; leave {letter} "
                "out"
            )
    return {**DEFAULTS, **before, **said}


def _with_rate(config: dict[str, Any]) -> dict[str, Any]:
    """Make the learning rate a number; YAML gives 1e-4, which has no point, as text."""
    rate = (config.get("optimizer") or {}).get("lr")
    if rate is None:
        return config
    try:
        return merge(config, {"optimizer": {"lr": float(rate)}})
    except (TypeError, ValueError):
        raise ConfigError(f"optimizer.lr must be a number, found '{rate}'") from None
