"""The leaderboard's own figures, read from result files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from s3prl_speechclip.errors import ResultError

from .leaderboard_files import ResultFile, result_files
from .leaderboard_published import SUPERB
from .leaderboard_sections import PATTERNS, SLOTS
from .leaderboard_tables import Figure, Identity

logger = logging.getLogger(__name__)

MINI_SETS = "mini sets"
EMBEDDINGS = ("parallel", "cascaded", "sum")
CHANCE = "chance"
PROBES = {
    "frame_accuracy": ("phones", "frame_accuracy"),
    "phone_error": ("phones", "phone_error"),
    "purity": ("phones", "purity"),
    "phrases": ("phrases", "accuracy"),
    "words": ("words", "accuracy"),
}
PROBE_CHANCE = {"frame_accuracy": "phones", "phrases": "phrases", "words": "words"}
IMAGE_TEXT = {"T2I": "text_to_image", "I2T": "image_to_text", "mean": "mean"}
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


def result_figures(folders: Sequence[Path], home: Path) -> tuple[list[Figure], tuple[str, ...]]:
    """Read all result files below folders.

    Args:
        folders: of results; a result that is twice in one place counts once.
        home: the leaderboard's folder, which links start from.

    Returns:
        The figures, and a line for each file that no table has a place for.

    Raises:
        ResultError: a file is damaged, of another format, or lacks a metric.
    """
    figures: list[Figure] = []
    left_out = []
    for file in result_files(folders, home):
        reader = READERS.get(file.result.task)
        if reader is None:
            left_out.append(f"{file.link}: no table for the task '{file.result.task}'")
            logger.warning("left out: %s", left_out[-1])
        else:
            figures += reader(file)
    return _once(figures), tuple(left_out)


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
    columns: dict[str, tuple[str, ...]] = {
        f"{split}_{prefix}{kind}": (split, kind, name)
        for split, names in (("dev", ("mean",)), ("test", ("mean", "weighted")))
        for name in names
        for prefix in ("weighted_" if name == "weighted" else "",)
        for kind in ("librispeech", "synthetic")
    }
    columns["layer"] = ("chosen", "layer")
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
        file.figure("superb", identity, one.column, one.factor * file.number(one.split, one.name))
        for one in SUPERB_METRICS[file.result.task]
    ]


def _image_text(file: ResultFile) -> list[Figure]:
    found = []
    for split, _ in _splits(file):
        for name in ("trained", "untrained", CHANCE):
            who = file.identity(split, name)
            if name == CHANCE:
                who = file.identity(split, system=CHANCE)
            for short, direction in IMAGE_TEXT.items():
                for k in (1, 5, 10):
                    value = file.number(split, name, direction, f"recall@{k}")
                    found.append(file.figure("image_text", who, f"{short} R@{k}", value))
    return found


def _probe(file: ResultFile) -> list[Figure]:
    found = []
    for column, (probe, metric) in PROBES.items():
        measured = file.result.metrics.get(probe)
        for features in measured if isinstance(measured, Mapping) else (probe,):
            value = file.number(probe, features, metric)
            # What is no layer of the model's is a baseline.
            own = "/" in features
            who = file.identity(detail=features) if own else file.identity(system=features)
            found.append(file.figure("probe", who, column, value))
    chance = file.identity(system=CHANCE)
    found += [
        file.figure("probe", chance, column, file.number(CHANCE, probe))
        for column, probe in PROBE_CHANCE.items()
    ]
    return found


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
    metrics = file.result.metrics
    splits = [(name, m) for name, m in metrics.items() if isinstance(m, Mapping)]
    if not splits:
        raise ResultError(f"'{file.path}' has no metrics; measure {file.result.task} again")
    return splits


READERS: Mapping[str, Callable[[ResultFile], list[Figure]]] = MappingProxyType(
    {
        "retrieval": _retrieval,
        "keywords": _keywords,
        "words": _words,
        "zerospeech": _zerospeech,
        "image_text_retrieval": _image_text,
        "probe": _probe,
        "speed": _speed,
        **dict.fromkeys(SUPERB_METRICS, _superb),
    }
)
"""By task."""
