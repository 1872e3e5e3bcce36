"""s3prl's experts, made for a configuration and put right where their habits would mislead."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import inspect
import io
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from ..errors import ConfigError, CorpusError, SpeechClipError
from .config import Task
from .data import layout_of
from .lists import write_emotion_lists, write_length_tables

CLASSES_FILE = "classes.txt"  # beside a corpus in Speech Commands' layout with words of its own
CLASS_COUNT = 12  # that s3prl's keyword spotting is written for


def build_expert(
    task: Task, config: Mapping[str, Any], arguments: Mapping[str, Any], width: int, rate: int
) -> nn.Module:
    """Make the expert of a task.

    Args:
        task: of s3prl's.
        config: of the run, its corpus in it.
        arguments: what s3prl's command line would hold; `expdir` among them.
        width: of the upstream's features.
        rate: samples to one of its frames.

    Raises:
        ConfigError: s3prl's module needs a package that is not installed, or a key is missing.
        CorpusError: the expert cannot use the corpus.
    """
    config = _prepared(task, config, Path(arguments["expdir"]))
    try:
        module = importlib.import_module(f"s3prl.downstream.{task.folder}.expert")
    except ImportError as error:
        name = error.name or str(error)
        raise ConfigError(f"s3prl's {task.name} needs the package '{name}': install it") from error
    with corpus_errors(task), quiet():
        expert: nn.Module = module.DownstreamExpert(
            upstream_dim=width, upstream_rate=rate, **{**config, **arguments}
        )
    _after(task, expert)
    return expert


@contextlib.contextmanager
def corpus_errors(task: Task) -> Iterator[None]:
    """Turn what an expert's own reading of a corpus stumbles over into one line."""
    try:
        yield
    except SpeechClipError:
        raise
    except (AssertionError, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise CorpusError(
            f"s3prl's {task.name} cannot use the corpus as it is configured ({reason}); expected: "
            f"{layout_of(task)}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep s3prl's prints from standard output, whose last line is a promise.

    Its warnings too, such as of loaders with more workers than processors, which are never run.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Loaders:
    """The data loaders of an expert, made once a split where it makes the same ones every time.

    Args:
        task: of the expert.
        expert: of s3prl's.
    """

    def __init__(self, task: Task, expert: Any) -> None:
        self._task = task
        self._expert = expert
        self._by_epoch = "epoch" in inspect.signature(expert.get_dataloader).parameters
        self._made: dict[str, DataLoader[Any]] = {}

    def training(self, split: str, epoch: int) -> DataLoader[Any]:
        """Give the loader of a training epoch."""
        if not self._by_epoch:
            return self.evaluation(split)
        with corpus_errors(self._task), quiet():
            loader: DataLoader[Any] = self._expert.get_dataloader(split, epoch=epoch)
        return loader

    def evaluation(self, split: str) -> DataLoader[Any]:
        """Give the loader of a split.

        Raises:
            CorpusError: the expert cannot read the split, or has none of that name.
        """
        if split not in self._made:
            with corpus_errors(self._task), quiet():
                try:
                    loader = self._expert.get_dataloader(split)
                except (AttributeError, NotImplementedError):
                    loader = None  # how s3prl's experts say that they do not know the split
            if loader is None:
                raise ConfigError(f"s3prl's {self._task.name} has no split '{split}'")
            self._made[split] = loader
        return self._made[split]


def _prepared(task: Task, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Set up what an expert takes for granted; gives a configuration of its own to change.

    s3prl's experts change the one they get.
    """
    own = copy.deepcopy(dict(config))
    data = own["downstream_expert"].get("datarc") or {}
    if task.folder == "speech_commands":
        _set_class_words(Path(data["speech_commands_root"]))
    elif task.folder == "voxceleb1":
        _without_librosa()
        from s3prl.downstream.voxceleb1 import dataset

        # Its lists of files would be kept inside the installed package, for any corpus.
        dataset.CACHE_PATH = str(folder / "file_lists")
    elif task.folder == "emotion" and not data.get("meta_data"):
        data["meta_data"] = str(write_emotion_lists(Path(data["root"]), folder / "meta_data"))
    elif task.folder == "asr" and not data.get("bucket_file"):
        keys = ("train", "dev-clean", "dev-other", "test-clean", "test-other")
        splits = [name for key in keys for name in data.get(key) or ()]
        tables = write_length_tables(Path(data["libri_root"]), folder / "len_for_bucket", splits)
        data["bucket_file"] = str(tables)
    return own


def _after(task: Task, expert: Any) -> None:
    """Sort what s3prl lists in the order of the file system, which batches must not hang on."""
    if task.folder != "speech_commands":
        return
    for data in (expert.train_dataset, expert.dev_dataset):
        together = sorted(zip(data.data, data.sample_weights, strict=True), key=str)
        data.data = [entry for entry, _ in together]
        data.sample_weights = [weight for _, weight in together]
    expert.test_dataset.data.sort(key=str)


def _set_class_words(root: Path) -> None:
    """Give s3prl's keyword spotting the words of the corpus, which it has in its source."""
    from s3prl.downstream.speech_commands import dataset

    words = list(_official_words())
    path = root.parent / CLASSES_FILE
    if path.is_file():
        words = path.read_text(encoding="utf-8").split()
        if len(set(words)) != CLASS_COUNT or not {"_unknown_", "_silence_"} <= set(words):
            raise CorpusError(
                f"'{path}' must name {CLASS_COUNT} classes, _unknown_ and _silence_ among them; "
                f"found {len(words)}"
            )
    dataset.CLASSES[:] = words  # the list that the expert's module holds too


@cache
def _official_words() -> tuple[str, ...]:
    from s3prl.downstream.speech_commands import dataset

    return tuple(dataset.CLASSES)


def _without_librosa() -> None:
    """Let s3prl's speaker identification import librosa's `find_files`, which it never calls."""
    if importlib.util.find_spec("librosa") is None and "librosa" not in sys.modules:
        util = types.ModuleType("librosa.util")
        util.find_files = None  # type: ignore[attr-defined]
        librosa = types.ModuleType("librosa")
        librosa.util = util  # type: ignore[attr-defined]
        sys.modules |= {"librosa": librosa, "librosa.util": util}
