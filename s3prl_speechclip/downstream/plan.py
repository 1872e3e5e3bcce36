"""A user's request, resolved once into the plan of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import build, merge
from ..data.corpora import ROOT_VARIABLE
from ..data.corpora.corpus import LEFT_OUT
from ..data.files import read_lines
from ..errors import CheckpointError, ConfigError, CorpusError
from ..minis import NAMES as MINI_SETS
from ..minis import mini_set
from .request import DEFAULTS, LETTERS, RESULTS, S3PRL, Request
from .run_state import RunFolder, RunState, Weights, read_state
from .settings import (
    RunnerConfig,
    check_keys,
    override,
    parse_changes,
    read_task_config,
    refuse_code,
    value_at,
)
from .task import EXPERT, Layout, Task, Values, find_task
from .upstream_names import check_upstream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus of a run, as its checkpoints and results describe it."""

    corpus: str
    root: str = "as configured"
    mini: bool = False
    notes: tuple[str, ...] = ()


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
    moved: bool = False
    """Whether the corpus is not the one that the past experiment was trained on."""
    weights: Weights | None = None
    """Weights of the upstream; None until it is loaded."""
    cache: str = ""
    """Kind of features that the past experiment kept; empty without one."""
    runner: RunnerConfig = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runner", _runner(self.config, self.request))

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
        about: Values = {**asdict(self.data), "notes": list(self.data.notes), "cache": self.cache}
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
    elif past is not None and not request.evaluate and folder.resolve() != past.parent.resolve():
        raise ConfigError(
            f"-e continues a run in its own folder, '{past.parent}': leave -n and -p out, or copy "
            "that folder first"
        )
    sweeps = bool(request.sweep) and not request.evaluate
    if sweeps and request.past is not None:
        raise ConfigError("--lr-sweep trains from the first step; leave -e out")
    if past is None and not request.evaluate:
        refuse_overwriting(RunFolder(folder), request.auto_resume)
    given, request = request.checkpoint, completed(request, state)
    weights = state.weights if state is not None else None
    if weights is not None and given is None:
        if not os.path.isabs(weights.source) or os.path.exists(weights.source):
            request = replace(request, checkpoint=weights.source or None)
        elif request.checkpoint is None:
            raise CheckpointError(
                f"the past experiment's probe was trained on the upstream '{weights.source}' "
                f"(SHA-256 {weights.sha256[:12]}), which does not exist any more; give it with -k"
            )
    # A mistyped option ends here: what follows makes the mini set, or imports s3prl.
    check_upstream(str(request.upstream), request.checkpoint)
    if request.upstream_config is not None and not Path(request.upstream_config).is_file():
        raise ConfigError(f"-g: no file '{request.upstream_config}', the upstream's configuration")
    task = find_task(str(request.task))
    changes = parse_changes(request.override)
    config = state.config if state else read_task_config(task, request.config)
    check_keys(config, changes)
    runner = _runner(merge(config, changes), request)
    if sweeps and task.dev not in set(runner.eval_dataloaders) - set(runner.test_dataloaders):
        raise ConfigError(
            f"--lr-sweep chooses on {task.dev}: it must be in runner.eval_dataloaders, and not in "
            "runner.test_dataloaders"
        )
    about = (state.arguments.get("about") or {}) if state else {}
    overridden = task.layout is not None and value_at(changes.get(EXPERT), task.layout.key)
    if state and request.data_root is None and not overridden:
        data = Data(
            corpus=about.get("corpus", task.name),
            root=about.get("root", Data.root),
            mini=bool(about.get("mini")),
            notes=tuple(about.get("notes", ())),
        )
    else:
        config, data = place_corpus(task, config, request, changes)
    config = override(config, changes)
    refuse_code(config)
    if state is not None:
        check_settings(config, state)
    return Plan(
        request=request,
        task=task,
        config=config,
        data=data,
        folder=folder,
        past=past,
        moved=request.evaluate and bool(about) and _is_another(data, about),
        cache=state.cache if state else "",
    )


def _runner(config: Values, request: Request) -> RunnerConfig:
    """Build the section `runner`, with what older checkpoints and s3prl call by other names."""
    values = dict(config.get("runner") or {})
    if values.get("fp16"):
        values["precision"] = "fp16"
    if values.get("cache") is False:  # what YAML makes of `off`
        values["cache"] = "off"
    if request.cache is not None:
        values["cache"] = request.cache
    return build(RunnerConfig, values, "runner")


def read_own(plan: Plan, path: Path) -> RunState:
    """Read a checkpoint, and check that its probe was trained on a plan's upstream.

    Raises:
        CheckpointError: it cannot be read, or the upstream has other weights.
    """
    state = read_state(path)
    then, now = state.weights, plan.weights
    if then is not None and now is not None and then.sha256 and now.sha256 != then.sha256:
        raise CheckpointError(
            f"the past experiment's probe was trained on the upstream '{then.source}' (SHA-256 "
            f"{then.sha256[:12]}), but '{now.source}' has {now.sha256[:12] or 'none'}; give the "
            "weights that it was trained on with -k"
        )
    return state


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


def completed(request: Request, state: RunState | None) -> Request:
    """Complete a request from the past experiment, else from the defaults.

    Raises:
        ConfigError: the past experiment is of another task, or its probe is of another upstream,
            other features of it, or another seed.
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
    for name in (*DEFAULTS, "layer", "variant"):
        found = past.get(name)
        if found is None:
            found = DEFAULTS.get(name)
        if past and given.get(name, found) != found:
            letter = LETTERS[name]
            raise ConfigError(
                f"{letter} {given[name]}, but the past experiment has {found}; leave {letter} out"
            )
    return replace(request, **{**DEFAULTS, **past, **given})


def check_settings(config: Values, state: RunState) -> None:
    """Check that a past experiment was trained as a configuration says.

    Raises:
        ConfigError: its optimiser, schedule or fold differ.
    """
    for key in ("optimizer", "scheduler", f"{EXPERT}.datarc.test_fold"):
        if value_at(config, key) != value_at(state.config, key):
            raise ConfigError(
                f"-o: the past experiment was trained with another {key}, and a run keeps its own; "
                f"leave {key} out"
            )


def _is_another(data: Data, about: Mapping[str, Any]) -> bool:
    """Return whether a corpus is another than a checkpoint's: published ones are where they are."""
    published = data.corpus == about.get("corpus") and not data.corpus.startswith("own (")
    return not published and data.root != about.get("root", data.root)


def place_corpus(
    task: Task, config: Values, request: Request, changes: Values
) -> tuple[Values, Data]:
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
    given = value_at(changes.get(EXPERT), layout.key)
    if given is None and request.data_root is None:
        given = value_at(config[EXPERT], layout.key)
    if given:
        path = Path(str(given)).absolute()
        for place in (path, path.parent):  # the root, or the folder in it that is read
            read = place if place == path else _read_folder(layout, place)
            if read == path and has_size(place, layout.published):
                edition = layout.edition(place) if layout.edition is not None else ""
                name = f"{task.name}_{edition}" if edition else task.name
                return config, Data(corpus=name, root=str(given))
        return config, Data(corpus=_own(layout), root=str(given))
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
    _check_layout(root, layout)
    edition = layout.edition(root) if layout.edition is not None else ""
    if edition:
        data = replace(data, corpus=f"{data.corpus}_{edition}")
    elif not data.mini and not has_size(root, layout.published):
        data = replace(data, corpus=_own(layout))
    return merge(config, {EXPERT: layout.place(root)}), data


def _read_folder(layout: Layout, root: Path) -> Path | None:
    """Return the folder of a corpus that is read, which may lie in its root."""
    try:
        return Path(str(value_at(layout.place(root), layout.key))).absolute()
    except CorpusError:
        return None


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


def _check_layout(root: Path, layout: Layout) -> None:
    for name in layout.needed:
        if not any((root / choice).exists() for choice in name.split("|")):
            raise CorpusError(
                f"{layout.title}: no '{root / name.split('|')[0]}'; fetch it from {layout.fetch}; "
                f"expected under --data-root DIR: {layout.text}"
            )


def has_size(root: Path, published: Mapping[str, int]) -> bool:
    """Return whether a corpus has published numbers, less at most what may be unreadable.

    Args:
        root: folder of the corpus.
        published: as a `Layout` declares them.
    """
    for names, size in published.items():
        counts = (count(root, name) for name in names.split("|"))
        if not (1 - LEFT_OUT) * size <= next(filter(None, counts), 0) <= size:
            return False
    return True


def count(root: Path, name: str) -> int:
    """Count the files of a pattern below a root, or the lines of a list there."""
    if "*" in name:
        return sum(1 for _ in root.glob(name))
    return len(read_lines(root / name)) if (root / name).is_file() else 0


def _own(layout: Layout) -> str:
    return f"own ({layout.title} layout)"
