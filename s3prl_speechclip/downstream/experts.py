"""s3prl's experts, built for a plan, and their data loaders."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from ..errors import AudioError, ConfigError, CorpusError, SpeechClipError
from .compat import quiet
from .plan import Plan
from .reading import read_as_mono
from .task import EXPERT, Task


def build_expert(plan: Plan, width: int, rate: int) -> nn.Module:
    """Build the expert of a plan's task.

    Args:
        plan: the run.
        width: size of the upstream's features.
        rate: samples per frame.

    Raises:
        ConfigError: s3prl's module needs a package that is not installed, or a key is missing.
        CorpusError: the expert cannot use the corpus.
    """
    task = plan.task
    config = copy.deepcopy(plan.config)  # s3prl's experts change theirs
    try:
        with corpus_errors(task), quiet():
            if task.prepare is not None:
                task.prepare(config[EXPERT], plan.folder)
            package = f"s3prl.downstream.{task.folder}"
            module = importlib.import_module(f"{package}.expert")
            read_as_mono(package)
            expert: nn.Module = module.DownstreamExpert(
                upstream_dim=width, upstream_rate=rate, **{**config, **plan.arguments()}
            )
            if task.correct is not None:
                task.correct(expert)
    except ImportError as error:
        name = error.name or str(error)
        raise ConfigError(f"s3prl's {task.name} needs the package '{name}': install it") from error
    return expert


@contextlib.contextmanager
def corpus_errors(task: Task) -> Iterator[None]:
    """Turn what an expert's own reading of a corpus stumbles over into one line."""
    try:
        yield
    except AudioError as error:
        raise CorpusError(one_line(error)) from error
    except SpeechClipError:
        raise
    except (AssertionError, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise CorpusError(
            f"s3prl's {task.name} cannot use the corpus as it is configured "
            f"({type(error).__name__}: {one_line(error)}); expected: "
            f"{task.layout_text}"
        ) from error


def one_line(error: Exception) -> str:
    """Return an error's text on one line, without pretraining's option to skip recordings."""
    return " ".join(str(error).split()).replace(", or leave it out with --skip-broken", "")


class Loaders:
    """The data loaders of an expert, each made once.

    Args:
        task: the expert's task.
        expert: s3prl's.
    """

    def __init__(self, task: Task, expert: Any) -> None:
        self._task = task
        self._expert = expert
        self._made: dict[str, DataLoader[Any]] = {}

    def evaluation(self, split: str) -> DataLoader[Any]:
        """Return the loader of a split.

        Raises:
            ConfigError: the expert has no split of that name.
            CorpusError: the expert cannot read the split.
        """
        if split not in self._made:
            with corpus_errors(self._task), quiet():
                try:
                    loader = self._expert.get_dataloader(split)
                except (AttributeError, NotImplementedError):
                    loader = None  # how s3prl's experts reject a split
            if loader is None:
                raise ConfigError(f"s3prl's {self._task.name} has no split '{split}'")
            self._made[split] = loader
        return self._made[split]
