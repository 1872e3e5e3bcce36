"""The corpus of a run: found, checked and put into the configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import merge
from ..data.corpora import ROOT_VARIABLE
from ..data.corpora.corpus import LEFT_OUT
from ..data.files import read_lines
from ..errors import CorpusError
from ..minis import NAMES as MINI_SETS
from ..minis import mini_set
from .request import Request
from .settings import value_at
from .task import EXPERT, Layout, Task, Values

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The corpus of a run, as its checkpoints and results describe it."""

    corpus: str
    root: str = "as configured"
    mini: bool = False
    notes: tuple[str, ...] = ()


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
        places = (Path(str(given)), Path(str(given)).parent)  # the root, or a folder in it
        published = any(has_size(place, layout.published) for place in places)
        name = task.name if published else _own(layout)
        return config, Data(corpus=name, root=str(given))
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
