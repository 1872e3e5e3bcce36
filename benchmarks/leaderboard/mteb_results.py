"""Result files of mteb's retrieval between speech and images.

mteb writes a JSON a task, each of one direction, and names the model in `model_meta.json` beside
it. Its `hit_rate_at_k` is this project's recall at k: any right answer among the first k. Its
`recall_at_k` is not, where an image has several recordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s3prl_speechclip.checkpoints.released import HUB_NAMES, RELEASED
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.minis import NAMES
from s3prl_speechclip.structures import TaskResult

from ..shared.board import KS, Figure

TASK = "mteb_retrieval"
FIELDS = {"task_name", "mteb_version", "scores"}
"""Fields by which a result of mteb is known."""
META = "model_meta.json"
NAME = re.compile(r"(?P<corpus>\w+?)(A2I|AudioToImage|(?P<back>I2A|ImageToAudio))Retrieval")
CORPORA = {
    "SpokenCOCO": "spokencoco",
    "SpeechCoco": "SpeechCOCO (mteb)",
    "Flickr": "Flickr8k, all images (mteb)",
}
"""Corpora of mteb's tasks; only the first is a published test split."""
MINI = re.compile(r"s3prl_speechclip/(\w+)-mini")


def read_mteb(values: Mapping[str, Any], path: Path) -> TaskResult | None:
    """Return the record of mteb's result; None for tasks that retrieve something else.

    Args:
        values: content of mteb's file, which has `FIELDS`.
        path: the file.

    Raises:
        ResultError: a field is missing or of another kind; the message names it.
    """
    task = NAME.fullmatch(str(values["task_name"]))
    if task is None:
        return None
    direction = "image_to_speech" if task["back"] else "speech_to_image"
    corpus = CORPORA.get(task["corpus"], task["corpus"].lower())
    try:
        metrics = {
            split: {direction: {f"recall@{k}": round(100 * one[f"hit_rate_at_{k}"], 4) for k in KS}}
            for split, (one, *_) in values["scores"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"field 'scores': it is not mteb's of retrieval ({error!r})") from error
    model = _model(path.with_name(META))
    system, size = _system(model["name"])
    return TaskResult(
        task=TASK,
        system=system,
        size=size,
        corpus=corpus,
        checkpoint=f"{model['name']}@{model['revision']}",
        checkpoint_hash="",
        metrics=metrics,
        protocol={
            "recall": "mteb's hit_rate_at_k",
            "embedding": (model.get("experiment_kwargs") or {}).get("embedding", ""),
            "dataset_revision": values.get("dataset_revision", ""),
        },
        seed=0,
        versions={"mteb": str(values["mteb_version"])},
        wall_time=float(values.get("evaluation_time") or 0),
        mini=size == "mini" or corpus in NAMES,
    )


def mteb_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the leaderboard's figures of mteb's result, which is of one direction."""
    short = {"speech_to_image": "S2I", "image_to_speech": "I2S"}
    for split, found in result.metrics.items():
        for direction in found:
            for k in KS:
                yield Figure(
                    column=f"{short[direction]} R@{k}",
                    keys=(split, direction, f"recall@{k}"),
                    split=split,
                    detail=result.protocol["embedding"],
                )


def _model(path: Path) -> Mapping[str, Any]:
    try:
        model: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(model["name"], str) and "revision" in model:
            return model
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ResultError(f"'{META}', in which mteb names the model, is missing beside it or damaged")


def _system(name: str) -> tuple[str, str]:
    """Return name and size of a model in tables; those of others keep the name of mteb."""
    if shipped := MINI.fullmatch(name):
        return shipped[1], "mini"
    if name in RELEASED:
        size, _, kind, _ = RELEASED[name].file.split("/")
        return HUB_NAMES[kind], size
    return name, ""
