"""The declaration of a downstream task, and the tasks that are declared."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .heads import Head
    from .plan import Plan

EXPERT = "downstream_expert"  # section of a configuration that s3prl's expert reads
Values = dict[str, Any]
"""Nested plain values, as YAML holds them."""
Scores = dict[str, dict[str, float]]
"""Metrics by split."""
Evaluate = Callable[["Plan", "nn.Module", "torch.device"], tuple[Scores, Mapping[str, Any]]]
"""Measures an upstream on its device; returns the scores, and notes for the protocol."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure that a task is compared by."""

    key: str
    """Name in the metrics of a result's split."""
    label: str
    """Head of a table's column, such as "IC acc"."""
    column: str = ""
    """Column of the leaderboard, which is in percent; empty: the leaderboard does not show it."""
    higher_is_better: bool = True
    percent: bool = True
    """Tables show it in percent; False: as it is."""
    to_percent: float = 100.0
    """Factor that brings the value to percent."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A corpus on disk, in its official layout."""

    title: str
    """Name of the corpus."""
    fetch: str
    """Place where it can be fetched."""
    text: str
    """Files and folders below its root, for messages."""
    needed: tuple[str, ...]
    """Paths below the root that must exist; alternatives are separated by `|`."""
    place: Callable[[Path], Values]
    """Returns the keys of the section `downstream_expert` that hold the paths of a root."""
    key: str
    """Dotted key, in that section, of the root; an override of it means another corpus."""
    edition: Callable[[Path], str] | None = None
    """Returns the edition of the corpus below a root; empty: the one that SUPERB takes."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Files of a pattern below the root, or lines of a list, that the published corpus has;
    alternatives are separated by `|`; empty: unknown."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A downstream task of s3prl's.

    A file `tasks/<name>.py` declares one as `TASK`, and `downstream_configs/<name>.yaml` configures
    it; the command line, the tables and the leaderboard read the declaration.
    """

    name: str
    """As `-d` takes it."""
    short: str = ""
    """SUPERB's abbreviation, which `-d` takes too."""
    expert: str = ""
    """Folder in `s3prl.downstream`; empty: as the name."""
    title: str = ""
    metrics: tuple[Metric, ...] = ()
    """The first decides between learning rates; empty: unknown."""
    dev: str = "dev"
    """Split that the first metric is compared on."""
    test: str = "test"
    """Split that the figures of tables are of."""
    pooled: bool = False
    """Whether s3prl's head is linear up to a mean over time, as SUPERB configures it."""
    evaluated_together: bool = False
    """Whether recordings of similar lengths may be evaluated in one batch where s3prl takes one at
    a time; the expert notes a loss a batch, and other lists by recording."""
    layout: Layout | None = None
    """None: the configuration names the corpus."""
    prepare: Callable[[Values, Path], None] | None = None
    """Corrects, before s3prl's expert is made, its section and what it takes for granted; the
    second argument is the folder of the experiment."""
    correct: Callable[[Any], None] | None = None
    """Corrects s3prl's expert once it is made."""
    head: Head | None = None
    """Names and decodes what the trained head predicts; None: nothing for a recording alone."""
    evaluate: Evaluate | None = None
    """Measures a plan's upstream where nothing is trained; None: a head is trained and tested."""

    @property
    def folder(self) -> str:
        return self.expert or self.name

    @property
    def layout_text(self) -> str:
        """The expected files of its corpus, for messages."""
        return self.layout.text if self.layout else "what s3prl's expert of that name reads"


@cache
def all_tasks() -> tuple[Task, ...]:
    """Return the tasks that are declared in the folder `tasks`, by name."""
    from . import tasks

    names = sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))
    return tuple(import_module(f"{tasks.__name__}.{name}").TASK for name in names)


def find_task(name: str) -> Task:
    """Return the task of a name, full or short; others of s3prl's by their folder.

    Raises:
        ConfigError: s3prl has no such task.
    """
    for task in all_tasks():
        if name in (task.name, task.short):
            return task
    folders = _s3prl_folders() - {"ctc"}  # s3prl's own word for several tasks
    if name in folders:
        return Task(name=name)
    known = {task.name for task in all_tasks()} | {task.short for task in all_tasks()}
    raise ConfigError(unknown_name("downstream task", name, known | folders))


def _s3prl_folders() -> set[str]:
    """List the tasks that s3prl has an expert for, without importing it."""
    spec = find_spec("s3prl")
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return {
        path.parent.name for place in places for path in Path(place).glob("downstream/*/expert.py")
    }


def first_existing(root: Path, *choices: str) -> Path:
    """Return the first of several paths below a root that exists, or the first of all."""
    return next((root / name for name in choices if (root / name).exists()), root / choices[0])
