"""The leaderboard's own figures, read from result files."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.evaluation.results import read_result
from s3prl_speechclip.structures import TaskResult

from .leaderboard_published import SUPERB, ZEROSPEECH
from .leaderboard_tables import PATTERNS, SLOTS, Figure, Identity

logger = logging.getLogger(__name__)

MINI_SETS = "mini sets"
CORPORA = {"flickr8k": "Flickr8k", "spokencoco": "SpokenCOCO", "zerospeech2021": ZEROSPEECH}
"""Corpora that published tables have, as those spell them."""
EMBEDDINGS = ("parallel", "cascaded", "sum")
CHANCE = "chance"
DIRECTIONS = {"S2I": "speech_to_image", "I2S": "image_to_speech", "mean": "mean"}
PERCENT = 100.0


@dataclass(frozen=True)
class Metric:
    """A SUPERB column, and where a result has it."""

    column: str
    name: str
    split: str = "test"
    factor: float = PERCENT


SUPERB_METRICS: Mapping[str, tuple[Metric, ...]] = MappingProxyType(
    {
        "libriphone": (Metric("PR", "per"),),
        "speech_commands": (Metric("KS", "acc"),),
        "fluent_commands": (Metric("IC", "acc"),),
        "quesst14_dtw": (Metric("QbE", "maxTWV"),),
        "snips": (Metric("SF_F1", "slot_type_f1"), Metric("SF_CER", "slot_value_cer")),
        "asr": (Metric("ASR", "wer", "test-clean", 1.0),),
        "voxceleb1": (Metric("SID", "acc"),),
        "sv_voxceleb1": (Metric("ASV", "EER"),),
    }
)
"""By task. Of the ten, emotion is missing, whose figure is a mean over five folds, and diarization,
whose error rate another program computes."""


@dataclass(frozen=True)
class ResultFile:
    """A result and where it lies."""

    path: Path
    result: TaskResult
    folder: str
    """Below the folder of results; empty: in it."""
    link: str

    def number(self, *keys: str) -> float:
        """Give a metric.

        Raises:
            ResultError: it is missing or no number.
        """
        value: Any = self.result.metrics
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        name = ".".join(keys)
        if isinstance(value, bool) or not isinstance(value, int | float):
            found = "nothing" if value is None else repr(value)
            raise ResultError(
                f"'{self.path}' has no metric '{name}' (found {found}); measure "
                f"{self.result.task} again"
            )
        if not math.isfinite(value):
            raise ResultError(f"the metric '{name}' of '{self.path}' is {value}; measure it again")
        return float(value)

    def figure(self, section: str, identity: Identity, column: str, value: float) -> Figure:
        """Give a figure of this file."""
        return Figure(
            section=section,
            identity=identity,
            column=column,
            value=value,
            source=self.path.name,
            link=self.link,
        )

    def identity(self, split: str = "", detail: str = "", system: str = "") -> Identity:
        """Say what a figure of this file is of."""
        corpus = CORPORA.get(self.result.corpus, self.result.corpus)
        return Identity(
            corpus=f"{corpus} {split}" if split not in ("", "test") else corpus,
            system=system or self.result.system,
            size="" if system else self.result.size,
            detail=detail,
            runs=self.folder or ("" if system else self.path.stem),
            mini=self.result.mini,
        )


def result_figures(
    folders: Sequence[Path], home: Path
) -> tuple[list[Figure], tuple[str, ...]]:
    """Read all result files below folders.

    Args:
        folders: of results; a result that is in several of them, or twice in one, counts once.
        home: the leaderboard's folder, which links start from.

    Returns:
        The figures, and a line for each file that no table has a place for.

    Raises:
        ResultError: a file is damaged, of another format, or lacks a metric.
    """
    figures: list[Figure] = []
    left_out = []
    for file in _files(folders, home):
        reader = READERS.get(file.result.task)
        if reader is None:
            left_out.append(f"{file.link}: no table for the task '{file.result.task}'")
            logger.warning("left out: %s", left_out[-1])
        else:
            figures += reader(file)
    return _once(figures), tuple(left_out)


def _files(folders: Sequence[Path], home: Path) -> Iterator[ResultFile]:
    seen: set[tuple] = set()
    for folder in folders:
        if not folder.is_dir():
            raise ResultError(f"there is no folder of results '{folder}'; name another")
        for path in sorted(folder.rglob("*.json")):
            result = read_result(path)
            about = (result.task, result.system, result.size, result.corpus, result.checkpoint_hash)
            same = (*about, result.seed, repr(result.metrics))
            if same in seen:
                continue
            seen.add(same)
            inner = path.parent.relative_to(folder).as_posix()
            yield ResultFile(
                path, result, "" if inner == "." else inner, os.path.relpath(path, home)
            )


def _once(figures: Iterable[Figure]) -> list[Figure]:
    """Keep chance once for a corpus: every file has it, and it is no run."""
    kept: dict[tuple, Figure] = {}
    for number, one in enumerate(figures):
        own = None if one.identity.system == CHANCE else number
        kept.setdefault((one.section, one.identity, one.column, own), one)
    return list(kept.values())


def _retrieval(file: ResultFile) -> list[Figure]:
    found = []
    for split, metrics in _splits(file):
        named = [name for name in EMBEDDINGS if name in metrics]
        if not named:
            raise ResultError(
                f"'{file.path}' has no metric of {', '.join(EMBEDDINGS)} in '{split}'; measure "
                "retrieval again"
            )
        for name in (*named, CHANCE):
            identity = file.identity(split, name)
            if name == CHANCE:
                identity = file.identity(split, system=CHANCE)
            for short, direction in DIRECTIONS.items():
                for k in (1, 5, 10):
                    value = file.number(split, name, direction, f"recall@{k}")
                    found.append(file.figure("retrieval", identity, f"{short} R@{k}", value))
    return found


def _keywords(file: ResultFile) -> list[Figure]:
    found = []
    for split, metrics in _splits(file):
        whole = "with_stop_words"
        values = {
            "average": file.number(split, whole, "hit_rate", "mean"),
            CHANCE: file.number(split, whole, "hit_rate", CHANCE),
            "words_f1": file.number(split, whole, "words", "f1"),
        }
        per_slot = metrics[whole]["hit_rate"].get("per_slot", ())
        values |= zip(SLOTS, per_slot, strict=False)
        found += [
            file.figure("keywords", file.identity(split), column, value)
            for column, value in values.items()
        ]
    return found


def _words(file: ResultFile) -> list[Figure]:
    return [
        file.figure("words", file.identity(split), column, file.number(split, *keys))
        for split, _ in _splits(file)
        for column, keys in (
            ("recognition", ("recognition",)),
            ("recognised_well", ("recognised_well",)),
            *((pattern, ("patterns", pattern)) for pattern in PATTERNS),
        )
    ]


def _zerospeech(file: ResultFile) -> list[Figure]:
    columns = {
        f"{split}_{prefix}{kind}": (split, kind, name)
        for split, names in (("dev", ("mean",)), ("test", ("mean", "weighted")))
        for name in names
        for prefix in ("weighted_" if name == "weighted" else "",)
        for kind in ("librispeech", "synthetic")
    }
    return [
        file.figure("zerospeech", file.identity(), column, file.number(*keys))
        for column, keys in columns.items()
    ]


def _superb(file: ResultFile) -> list[Figure]:
    identity = Identity(
        corpus=MINI_SETS if file.result.corpus.endswith("_mini") else SUPERB,
        system=file.result.system,
        size=file.result.size,
        runs=file.folder,  # the tasks of a system are files of their own
        mini=file.result.mini,
    )
    return [
        file.figure(
            "superb", identity, one.column, one.factor * file.number(one.split, one.name)
        )
        for one in SUPERB_METRICS[file.result.task]
    ]


def _speed(file: ResultFile) -> list[Figure]:
    device = file.result.protocol.get("device", "unknown device")
    identity = Identity(
        corpus=str(device),
        system=file.result.system,
        size=file.result.size,
        runs=file.folder,
        mini=file.result.mini,
    )
    columns = {
        "train": ("training", "examples_per_second"),
        "encode": ("encoding", "recordings_per_second"),
        "real_time": ("encoding", "times_real_time"),
    }
    return [
        file.figure("speed", identity, column, file.number(*keys))
        for column, keys in columns.items()
    ]


def _splits(file: ResultFile) -> list[tuple[str, Mapping[str, Any]]]:
    splits = [(name, m) for name, m in file.result.metrics.items() if isinstance(m, Mapping)]
    if not splits:
        raise ResultError(f"'{file.path}' has no metrics; measure {file.result.task} again")
    return splits


READERS: Mapping[str, Callable[[ResultFile], list[Figure]]] = MappingProxyType(
    {
        "retrieval": _retrieval,
        "keywords": _keywords,
        "words": _words,
        "zerospeech": _zerospeech,
        "speed": _speed,
        **dict.fromkeys(SUPERB_METRICS, _superb),
    }
)
"""By task."""
