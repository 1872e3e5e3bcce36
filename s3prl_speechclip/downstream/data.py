"""Where a task's corpus lies: given, found, or made in miniature."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import merge
from ..data.corpora import ROOT_VARIABLE
from ..errors import ConfigError, CorpusError
from ..minis import MiniSet, mini_set
from .config import Task, config_folder
from .layouts import CORPORA, EXPERT, Corpus, Values

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PlacedData:
    """A task's configuration with its corpus in it."""

    config: Values
    corpus: str
    root: str
    mini: bool
    notes: tuple[str, ...] = ()
    """For people and for the result."""


def place_data(
    task: Task,
    config: Mapping[str, Any],
    overridden: Collection[str],
    data_root: str | None,
    archive: str | None = None,
    *,
    own_config: bool = False,
) -> PlacedData:
    """Put a task's corpus into its configuration, with the settings of a mini set.

    The corpus is what an override names; else what `data_root` names; else the folder of the
    task's name in the folder that S3PRL_SPEECHCLIP_DATA names, if it is there; else the mini set,
    whose settings are laid over the configuration unless that is the user's own file.

    Raises:
        CorpusError: the corpus is missing or not in its layout, or the mini set cannot be made.
        ConfigError: a file that the configuration names is missing.
    """
    config = dict(config)
    corpus = CORPORA.get(task.name)
    if corpus is None:
        return PlacedData(config=config, corpus=task.name, root="as configured", mini=False)
    if corpus.key in overridden or (data_root is None and _value(config, corpus.key)):
        config = with_own_files(config)
        return PlacedData(
            config=config, corpus=task.name, root=str(_value(config, corpus.key)), mini=False
        )
    root = _given_root(task, data_root)
    notes: tuple[str, ...] = ()
    mini = root is None
    if root is None:
        made = _mini_set(task, corpus, archive)
        root, notes = made.root, made.notes
        if not own_config:
            config = merge(config, made.config)
    elif archive:
        raise CorpusError("--archive is for the mini sets; leave it or --data-root out")
    for name in corpus.needed:
        if not any((root / choice).exists() for choice in name.split("|")):
            raise CorpusError(
                f"{corpus.title}: no '{root / name.split('|')[0]}'; fetch it from {corpus.fetch}; "
                f"expected under --data-root DIR: {corpus.layout}"
            )
    config = with_own_files(merge(config, {EXPERT: corpus.place(root)}))
    return PlacedData(
        config=config,
        corpus=f"{task.name}_mini" if mini else task.name,
        root=str(root),
        mini=mini,
        notes=notes,
    )


def with_own_files(config: Mapping[str, Any]) -> Values:
    """Find the vocabularies that a configuration names, beside it or where the user runs.

    Raises:
        ConfigError: one is missing.
    """
    expert = dict(config[EXPERT])
    for section, key in (("text", "vocab_file"), ("datarc", "dict_path")):
        name = (expert.get(section) or {}).get(key)
        if not name:
            continue
        # The last for a checkpoint's, whose package may have moved.
        own = config_folder()
        places = (Path(name), own / name, own / "vocab" / Path(name).name)
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            raise ConfigError(f"no vocabulary '{name}' ({EXPERT}.{section}.{key})")
        expert[section] = {**expert[section], key: str(found)}
    return {**config, EXPERT: expert}


def without_paths(value: Any) -> Any:
    """Leave out of a configuration what is true on one machine only: absolute paths."""
    if isinstance(value, Mapping):
        kept = {key: without_paths(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", [], {})}
    if isinstance(value, (list, tuple)):
        return [inner for inner in map(without_paths, value) if inner is not None]
    return None if isinstance(value, str) and os.path.isabs(value) else value


def layout_of(task: Task) -> str:
    """Say how a task's corpus must lie, for messages."""
    corpus = CORPORA.get(task.name)
    return corpus.layout if corpus else "what s3prl's expert of that name reads"


def _given_root(task: Task, data_root: str | None) -> Path | None:
    if data_root is not None:
        root = Path(data_root).expanduser().absolute()
        if not root.is_dir():
            raise CorpusError(f"--data-root: no folder '{root}'; expected there: {layout_of(task)}")
        return root
    parent = os.environ.get(ROOT_VARIABLE)
    if not parent:
        return None
    root = Path(parent).expanduser().absolute() / task.name
    if not root.is_dir():
        raise CorpusError(
            f"{task.name}: no folder '{root}', where {ROOT_VARIABLE} says; put there, or name by "
            f"--data-root DIR: {layout_of(task)}; unset the variable for the mini set"
        )
    return root


def _mini_set(task: Task, corpus: Corpus, archive: str | None) -> MiniSet:
    if not corpus.mini:
        raise CorpusError(
            f"{task.name} has no mini set: fetch {corpus.title} from {corpus.fetch} and give "
            f"--data-root DIR, which holds {corpus.layout}"
        )
    made = mini_set(task.name, Path(archive).expanduser() if archive else None)
    logger.info("%s: no --data-root, so on the mini set [mini: not comparable]", task.name)
    return made


def _value(config: Mapping[str, Any], dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
