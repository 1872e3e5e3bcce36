"""A user's request, resolved once into the plan of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ..config import build, merge, parse_overrides, read_yaml
from ..data.corpora import ROOT_VARIABLE
from ..errors import CheckpointError, ConfigError, CorpusError, unknown_name
from ..minis import NAMES as MINI_SETS
from ..minis import mini_set
from .run_state import RunFolder, RunState, read_state
from .task import EXPERT, Task, Values, find_task

logger = logging.getLogger(__name__)

RESULTS = Path("result") / "downstream"  # where experiments lie by default
FREE = ("optimizer", "scheduler", "specaug", "runner")  # sections that may gain keys
SWEEP = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # learning rates that SUPERB allows to choose from on dev


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """The section `runner`: s3prl's keys, and some of this runner's own."""

    total_steps: int = 0
    """Optimiser steps."""
    gradient_clipping: float = 1.0
    """Norm."""
    gradient_accumulate_steps: int = 1
    """Batches to an optimiser step."""
    log_step: int = 100
    """Steps between entries of the log."""
    eval_step: int = 1000
    """Steps between evaluations on dev; the last step is always evaluated."""
    save_step: int = 1000
    """Steps between checkpoints."""
    max_keep: int = 1
    """Checkpoints kept besides the best."""
    eval_dataloaders: tuple[str, ...] = ("dev",)
    """Splits of the evaluations in training; those of `test_dataloaders` are left for the end."""
    test_dataloaders: tuple[str, ...] = ("test",)
    """Splits that the best checkpoint is tested on, once."""
    train_dataloader: str = "train"
    evaluate_ratio: float = 1.0
    """Share of a dev split's batches that is read."""
    fp16: bool = False
    """s3prl's word for precision=fp16."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    num_workers: int | None = None
    """Processes that read; None: as the expert's own section says."""
    feature_cache: Literal["off", "fp32", "fp16"] = "off"
    """Keep a frozen upstream's features of each recording in memory, in this precision."""
    feature_cache_gb: float = 4.0
    """Memory for them, 10^9 bytes; the rest is computed every time."""

    def __post_init__(self) -> None:
        for name in ("gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"runner.{name} must be at least 1, found {getattr(self, name)}")
        if self.total_steps < 0:
            raise ConfigError(f"runner.total_steps must not be negative, found {self.total_steps}")
        if self.gradient_clipping <= 0:
            raise ConfigError(
                f"runner.gradient_clipping must be above 0, found {self.gradient_clipping}"
            )
        if not 0 < self.evaluate_ratio <= 1:
            raise ConfigError(
                f"runner.evaluate_ratio is above 0 and at most 1, found {self.evaluate_ratio}"
            )


@dataclass(frozen=True, kw_only=True)
class Request:
    """A user's request; None where nothing was given."""

    task: str | None = None
    upstream: str | None = None
    checkpoint: str | None = None
    upstream_config: str | None = None
    selection: str | None = None
    """Entry of the upstream's output."""
    layer: int | None = None
    normalize: bool | None = None
    trainable: bool | None = None
    variant: str | None = None
    seed: int | None = None
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
    """Splits of `-m evaluate`; empty: the configuration's."""
    sweep: tuple[float, ...] = ()
    """Learning rates to choose from on dev."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"--seed must not be negative, found {self.seed}")
        if any(not rate > 0 for rate in self.sweep):
            raise ConfigError(f"--lr-sweep: learning rates are above 0, found {min(self.sweep)}")


S3PRL: Mapping[str, str] = {
    "task": "downstream",
    "upstream": "upstream",
    "checkpoint": "upstream_ckpt",
    "upstream_config": "upstream_model_config",
    "selection": "upstream_feature_selection",
    "layer": "upstream_layer_selection",
    "normalize": "upstream_feature_normalize",
    "trainable": "upstream_trainable",
    "variant": "downstream_variant",
    "seed": "seed",
}
"""s3prl's names of the fields that a checkpoint keeps."""

DEFAULTS: Mapping[str, Any] = {
    "task": "fluent_commands",
    "upstream": "speechclip_hybrid",
    "selection": "hidden_states",
    "normalize": False,
    "trainable": False,
    "seed": 1337,
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus of a run, as its checkpoints and results describe it."""

    corpus: str
    root: str = "as configured"
    mini: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """The weights of the upstream that a probe was trained on."""

    source: str
    """Value of `-k`."""
    sha256: str
    """Digest of the file that holds them; empty where that is not known."""

    def check(self, other: Weights) -> None:
        """Check that a probe is not used on another upstream than its own.

        Raises:
            CheckpointError: it would be.
        """
        if self.sha256 and other.sha256 != self.sha256:
            raise CheckpointError(
                f"the past experiment's probe was trained on the upstream '{self.source}' (SHA-256 "
                f"{self.sha256[:12]}), but '{other.source}' has {other.sha256[:12] or 'none'}; "
                "give the weights that it was trained on with -k"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request, resolved: nothing is left open."""

    request: Request
    """Completed with the past experiment's values and the defaults."""
    task: Task
    config: Values
    """All sections, overridden, with the corpus in them."""
    data: Data
    folder: Path
    past: Path | None = None
    """Checkpoint to resume from or to evaluate."""
    weights: Weights | None = None
    """Weights of the upstream; None until it is loaded."""
    runner: RunnerConfig = field(init=False)

    def __post_init__(self) -> None:
        values = dict(self.config.get("runner") or {})
        if values.get("fp16"):
            values["precision"] = "fp16"
        object.__setattr__(self, "runner", build(RunnerConfig, values, "runner"))

    @property
    def seed(self) -> int:
        return int(self.request.seed or 0)

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits to test."""
        return self.request.splits or self.runner.test_dataloaders

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of s3prl's command line, for experts and checkpoints."""
        named = {theirs: getattr(self.request, ours) for ours, theirs in S3PRL.items()}
        about: Values = {**asdict(self.data), "notes": list(self.data.notes)}
        if self.weights is not None:
            about["upstream"] = asdict(self.weights)
        return {**named, "expdir": str(self.folder), "about": about}


def resolve(request: Request) -> Plan:
    """Combine a request with the experiment that it resumes or evaluates, and with defaults.

    Raises:
        SpeechClipError: what a user can cause, on one line.
    """
    past = _find_past(request)
    state = read_state(past) if past is not None else None
    folder = _folder(request)
    if past is not None and not (request.folder or request.name):
        folder = past.parent
    if past is None and not request.evaluate:
        refuse_overwriting(RunFolder(folder), request.auto_resume)
    given, request = request.checkpoint, _completed(request, state)
    weights = past_weights(state) if state is not None else None
    if weights is not None and given is None:
        if not os.path.isabs(weights.source) or os.path.exists(weights.source):
            request = replace(request, checkpoint=weights.source or None)
        elif request.checkpoint is None:
            raise CheckpointError(
                f"the past experiment's probe was trained on the upstream '{weights.source}' "
                f"(SHA-256 {weights.sha256[:12]}), which does not exist any more; give it with -k"
            )
    task = find_task(str(request.task))
    changes = _parse_changes(request.override)
    config = state.config if state else read_task_config(task, request.config)
    if state and request.data_root is None:
        data = _past_data(task, state)
    else:
        config, data = _place(task, config, request, changes)
    config = _with_files_and_rate(_override(config, changes))
    _refuse_code(config)
    return Plan(request=request, task=task, config=config, data=data, folder=folder, past=past)


def past_weights(state: RunState) -> Weights | None:
    """Return the upstream's weights that a checkpoint records; None where it records none."""
    recorded = (state.arguments.get("about") or {}).get("upstream")
    return Weights(**recorded) if recorded else None


def refuse_overwriting(folder: RunFolder, auto_resume: bool) -> None:
    """Refuse to start where a run stands.

    Raises:
        ConfigError: one does, and it is not to be resumed.
    """
    if folder.steps() and not auto_resume:
        raise ConfigError(
            f"'{folder.path}' already holds a run: resume it with -a, name another with -n or -p, "
            "or remove it"
        )


def read_task_config(task: Task, path: Path | None) -> Values:
    """Read a task's configuration: the user's file, else the one that comes with the package.

    Raises:
        ConfigError: there is none, or it lacks what an expert needs.
    """
    if path is None:
        path = config_folder() / f"{task.name}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{task.name} has no configuration of its own here; give s3prl's with -c FILE"
            )
    config = read_yaml(path)
    if not isinstance(config.get(EXPERT), dict):
        raise ConfigError(f"'{path}' must hold the sections runner, optimizer, {EXPERT}")
    return config


def config_folder() -> Path:
    """Return the folder of the configurations that come with the package."""
    return Path(str(resources.files("s3prl_speechclip.downstream_configs")))


def without_paths(value: Any) -> Any:
    """Leave out of a configuration what holds on one machine only: absolute paths."""
    if isinstance(value, Mapping):
        kept = {key: without_paths(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        return [inner for inner in map(without_paths, value) if inner is not None]
    return None if isinstance(value, str) and os.path.isabs(value) else value


def _folder(request: Request) -> Path:
    """Return the folder that a request names or means by default."""
    if request.folder or request.name:
        return request.folder or RESULTS / str(request.name)
    task = find_task(request.task or DEFAULTS["task"])
    return RESULTS / f"{request.upstream or DEFAULTS['upstream']}-{task.name}"


def _find_past(request: Request) -> Path | None:
    """Find the checkpoint that `-e`, `-a` or `-m evaluate` mean.

    Raises:
        CheckpointError: `-e` names none, or there is none to evaluate.
    """
    if request.past is not None and request.past.is_file():
        return request.past
    own = RunFolder(request.past or _folder(request))
    if request.past is None and not (request.auto_resume or request.evaluate):
        return None
    found = own.best() if request.evaluate else own.last()
    if found is None and request.past is not None:
        raise CheckpointError(f"-e: no checkpoint of a downstream run in '{request.past}'")
    trains = find_task(request.task or DEFAULTS["task"]).evaluate is None
    if found is None and request.evaluate and trains:
        raise CheckpointError(
            f"-m evaluate needs a trained probe: '{own.path}' holds none; name one with -e"
        )
    return found


def _completed(request: Request, state: RunState | None) -> Request:
    """Complete a request from the past experiment, else from the defaults.

    Raises:
        ConfigError: the past experiment is of another task or upstream.
    """
    given = {name: getattr(request, name) for name in S3PRL}
    given = {name: value for name, value in given.items() if value is not None}
    if "task" in given:
        given["task"] = find_task(given["task"]).name
    past = {}
    if state is not None:
        past = {o: state.arguments[t] for o, t in S3PRL.items() if t in state.arguments}
        if past.get("task") == "ctc":  # s3prl's own word for two tasks
            past["task"] = state.config[EXPERT]["corpus"]["name"]
    for name, letter in (("task", "-d"), ("upstream", "-u")):
        if name in past and given.get(name, past[name]) != past[name]:
            raise ConfigError(
                f"{letter} {given[name]}, but the past experiment has {past[name]}; leave {letter} "
                "out"
            )
    return replace(request, **{**DEFAULTS, **past, **given})


def _parse_changes(text: str) -> Values:
    """Read `-o`: `section.key=value,,...`, with or without s3prl's leading `config.`."""
    changes = parse_overrides(text)
    inner = changes.pop("config", {})
    if not isinstance(inner, dict):
        raise ConfigError(f"an override is 'section.key=value', found 'config={inner}'")
    return merge(changes, inner)


def _override(config: Values, changes: Values) -> Values:
    """Merge overrides into a configuration.

    Raises:
        ConfigError: a key that the configuration lacks.
    """
    for names in _leaves(changes):
        where: Any = config
        for depth, name in enumerate(names):
            if names[0] in FREE and depth > 0:
                break
            if not isinstance(where, dict) or (name not in where and name not in FREE):
                known = where if isinstance(where, dict) else {}
                raise ConfigError(
                    unknown_name(
                        "configuration key",
                        ".".join(names[: depth + 1]),
                        [".".join([*names[:depth], str(key)]) for key in known],
                    )
                )
            where = where.get(name, {})
    return merge(config, changes)


def _leaves(changes: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key))


def _past_data(task: Task, state: RunState) -> Data:
    about = state.arguments.get("about") or {}
    return Data(
        corpus=about.get("corpus", task.name),
        root=about.get("root", Data.root),
        mini=bool(about.get("mini")),
        notes=tuple(about.get("notes", ())),
    )


def _place(task: Task, config: Values, request: Request, changes: Values) -> tuple[Values, Data]:
    """Put a task's corpus into its configuration, with the settings of a mini set.

    The corpus is what an override names; else what `--data-root` names; else the folder of the
    task's name in the folder that S3PRL_SPEECHCLIP_DATA names; else the mini set, whose settings
    are merged into the configuration unless that is the user's own file.

    Raises:
        CorpusError: the corpus is missing or not in its layout, or the mini set cannot be made.
    """
    layout = task.layout
    if layout is None:
        return config, Data(corpus=task.name)
    given = _value(changes.get(EXPERT), layout.key)
    if given is None and request.data_root is None:
        given = _value(config[EXPERT], layout.key)
    if given:
        return config, Data(corpus=task.name, root=str(given))
    root = _given_root(task, request.data_root)
    data = Data(corpus=task.name, root=str(root))
    if root is None:
        if task.name not in MINI_SETS:
            raise CorpusError(
                f"{task.name} has no mini set: fetch {layout.title} from {layout.fetch} and give "
                f"--data-root DIR, which holds {layout.text}"
            )
        archive = Path(request.archive).expanduser() if request.archive else None
        made = mini_set(task.name, archive)
        logger.info("%s: no --data-root, so on the mini set [mini: not comparable]", task.name)
        root = made.root
        data = Data(corpus=f"{task.name}_mini", root=str(root), mini=True, notes=made.notes)
        if request.config is None:
            config = merge(config, made.config)
    elif request.archive:
        raise CorpusError("--archive is for the mini sets; leave it or --data-root out")
    for name in layout.needed:
        if not any((root / choice).exists() for choice in name.split("|")):
            raise CorpusError(
                f"{layout.title}: no '{root / name.split('|')[0]}'; fetch it from {layout.fetch}; "
                f"expected under --data-root DIR: {layout.text}"
            )
    edition = layout.edition(root) if layout.edition is not None else ""
    if edition:
        data = replace(data, corpus=f"{data.corpus}_{edition}")
    return merge(config, {EXPERT: layout.place(root)}), data


def _given_root(task: Task, data_root: str | None) -> Path | None:
    if data_root is not None:
        root = Path(data_root).expanduser().absolute()
        if not root.is_dir():
            raise CorpusError(
                f"--data-root: no folder '{root}'; expected there: {task.layout_text}"
            )
        return root
    parent = os.environ.get(ROOT_VARIABLE)
    if not parent:
        return None
    root = Path(parent).expanduser().absolute() / task.name
    if not root.is_dir():
        raise CorpusError(
            f"{task.name}: no folder '{root}', where {ROOT_VARIABLE} says; put there, or name by "
            f"--data-root DIR: {task.layout_text}; unset the variable for the mini set"
        )
    return root


def _with_files_and_rate(config: Values) -> Values:
    """Find the vocabularies that a configuration names, and make the learning rate a number.

    Raises:
        ConfigError: a vocabulary is missing, or the learning rate is no number.
    """
    changes: Values = {}
    for section, key in (("text", "vocab_file"), ("datarc", "dict_path")):
        name = _value(config[EXPERT], f"{section}.{key}")
        if not name:
            continue
        own = config_folder()
        # The last for a checkpoint's, whose package may have moved.
        places = (Path(name), own / name, own / "vocab" / Path(name).name)
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            raise ConfigError(f"no vocabulary '{name}' ({EXPERT}.{section}.{key})")
        changes[EXPERT] = {section: {key: str(found)}}
    rate = _value(config, "optimizer.lr")
    if rate is not None:
        try:
            changes["optimizer"] = {"lr": float(rate)}  # YAML reads 1e-4, without a point, as text
        except (TypeError, ValueError):
            raise ConfigError(f"optimizer.lr must be a number, found '{rate}'") from None
    return merge(config, changes)


def _refuse_code(value: Any, where: str = "") -> None:
    """Refuse configuration texts that could call something: s3prl's experts pass names to `eval`.

    A checkpoint from elsewhere brings its configuration. Without brackets an expression calls
    nothing; an absolute path is no expression.

    Raises:
        ConfigError: there is one.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_code(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_code(inner, where)
    elif isinstance(value, str) and not os.path.isabs(value) and set(value) & set("([{"):
        raise ConfigError(
            f"{where}: '{value[:60]}' could run code, since s3prl evaluates such texts; give a "
            "name without brackets"
        )


def _value(values: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
