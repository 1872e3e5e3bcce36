"""The five models on the mini encoders, several seeds each: trained, measured, and one shipped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...benchmarks.shared.benchmark import evaluate
from ...checkpoints.locate import Located
from ...checkpoints.native import write_checkpoint
from ...data.corpora import load_corpus
from ...data.manifest import Manifest
from ...model.card import model_card
from ...model.config import find_variant
from ...model.speechclip import SpeechClip
from ...pretrain.config import resolve_config
from ...pretrain.train import pretrain
from ...results import read_result, write_result
from ...structures import TaskResult

logger = logging.getLogger(__name__)

SEEDS = (0, 1, 2)
CARD = "README.md"
LICENCE = "gpl-2.0"
"""Of weights trained on stamps: the pictures and recordings are under the GPL-2."""
DATA_LICENCES = (
    "stamps: GPL-2; emoji: drawings SIL Open Font License 1.1, names Unicode-DFS-2016; word cards: "
    "public domain"
)
LIMITS = (
    "Trained for minutes, mostly on short captions that synthetic voices read in English: it tells "
    "few words apart, knows hardly any of other languages, and what it calls keywords is seldom "
    "said. Use it to try things out; publish nothing that it scores."
)


@dataclass(frozen=True)
class Folders:
    """Where things go."""

    runs: Path
    """Experiment folders."""
    results: Path
    """Result files of every run."""
    shipped: Path
    """The package's folder of shipped models."""


def train_models(
    names: Sequence[str], folders: Folders, seeds: Sequence[int] = SEEDS, device: str = "auto"
) -> None:
    """Train and measure models that are not there yet, then ship the best seed of each name.

    Best is by recall on validation. What a killed call left half done is gone on with.

    Args:
        names: hub names.
        folders: where things go.
        seeds: of the runs.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    manifest = load_corpus("stamps")
    for seed in seeds:
        for name in names:
            folder = folders.runs / f"{name}-seed{seed}"
            pretrain(resolve_config(name, seed=seed), folder, auto_resume=True, device=device)
            located = Located(folder.as_posix(), "trained for the table")
            measure(located, manifest, folders.results, seed, device)
    for name in names:
        ship(name, folders, seeds)


def ship(name: str, folders: Folders, seeds: Sequence[int] = SEEDS) -> Path:
    """Write the best seed's model into the package, float16, with its card."""
    runs = [folders.runs / f"{name}-seed{seed}" for seed in seeds]
    models = [SpeechClip.from_pretrained(run) for run in runs]
    best = max(models, key=lambda model: float(model.about["validation_recall@10"]))
    folder = folders.shipped / name
    write_checkpoint(folder, best.stored(), half=True)
    result = read_result(folders.results / f"retrieval-{name}-seed{best.about['seed']}.json")
    about = {
        **best.about,
        "licence": LICENCE,
        "data_licences": DATA_LICENCES,
        "limits": LIMITS,
        "recall": _recall(result),
    }
    card = model_card(best.config, about, best.trainable_parameters())
    (folder / CARD).write_text(card, encoding="utf-8")
    logger.info("%s: seed %s ships", name, best.about["seed"])
    return folder


def measure(
    located: Located, manifest: Manifest, results: Path, seed: int, device: str = "auto"
) -> None:
    """Write the retrieval and keyword results of a run, unless they are there already."""
    name = SpeechClip.from_pretrained(located.source).config.variant
    tasks = {"retrieval": {}, "keywords": {"plot": 0}}
    if find_variant(name).keywords is None:
        del tasks["keywords"]
    for task, options in tasks.items():
        path = results / f"{task}-{name}-seed{seed}.json"
        if not is_result_of(path, located):
            result = evaluate(
                located.source, task, corpus=manifest, device=device, keep_states=True, **options
            )
            write_result(replace(result, seed=seed), path)


def _recall(result: TaskResult) -> dict[str, float]:
    """Give recall@10 in percent as a card shows it."""
    return {
        f"{split}, {embedding}, {direction.replace('_', ' ')}, recall@10": metrics[embedding][
            direction
        ]["recall@10"]
        for split, metrics in result.metrics.items()
        for embedding in ("parallel", "cascaded")
        if embedding in metrics
        for direction in ("speech_to_image", "image_to_speech")
    }


def is_result_of(path: Path, located: Located) -> bool:
    """Say whether a file holds a result of these weights."""
    if not path.is_file():
        return False
    known: TaskResult = read_result(path)
    return known.checkpoint_hash == located.digest()
