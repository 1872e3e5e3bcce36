"""Models on the mini encoders: the five with several seeds, and with and without batch norm."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...benchmarks.shared.benchmark import evaluate
from ...checkpoints.locate import Located
from ...checkpoints.native import write_checkpoint
from ...data.corpora import load_corpus
from ...data.manifest import Manifest
from ...model.card import model_card
from ...model.config import VARIANTS
from ...model.speechclip import SpeechClip
from ...pretrain.config import resolve_config
from ...pretrain.train import pretrain
from ...results import read_result, write_result
from ...structures import TaskResult
from .report import NORM_MODEL, NORM_PRESET, NORMS

logger = logging.getLogger(__name__)

ASSETS = Path("s3prl_speechclip") / "assets" / "mini"
RUNS = Path("result") / "mini"
RESULTS = Path("benchmarks") / "results" / "mini"
SEEDS = (0, 1, 2)
PLOTTED = 500  # recordings of each split
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


def train_models(device: str) -> None:
    """Train and measure models that are not there yet, then ship the best seed of each name.

    Best is by recall on validation. An interrupted run is resumed.
    """
    manifest = load_corpus("stamps")
    results = RESULTS / "runs"
    for seed in SEEDS:
        for name, variant in VARIANTS.items():
            folder = RUNS / "models" / f"{name}-seed{seed}"
            pretrain(resolve_config(name, seed=seed), folder, auto_resume=True, device=device)
            located = Located(folder.as_posix(), "trained for the table")
            path = results / f"retrieval-{name}-seed{seed}.json"
            measure(located, "retrieval", manifest, path, seed, device)
            if variant.keywords is not None:
                path = results / f"keywords-{name}-seed{seed}.json"
                measure(located, "keywords", manifest, path, seed, device, plot=0)
    for name in VARIANTS:
        ship_model(name, results)


def ship_model(name: str, results: Path) -> None:
    """Write the best seed's model into the package, float16, with its card."""
    models = [SpeechClip.from_pretrained(RUNS / "models" / f"{name}-seed{seed}") for seed in SEEDS]
    best = max(models, key=lambda model: float(model.about["validation_recall@10"]))
    folder = ASSETS / name
    write_checkpoint(folder, best.stored(), half=True)
    result = read_result(results / f"retrieval-{name}-seed{best.about['seed']}.json")
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


def measure(
    located: Located,
    task: str,
    manifest: Manifest,
    path: Path,
    seed: int,
    device: str,
    **options: Any,
) -> None:
    """Write a result of a run, unless it is there already."""
    if not is_result_of(path, located):
        result = evaluate(
            located.source, task, corpus=manifest, device=device, keep_states=True, **options
        )
        write_result(replace(result, seed=seed), path)


def _recall(result: TaskResult) -> dict[str, float]:
    """Return recall@10 in percent as a card shows it."""
    return {
        f"{split}, {embedding}, {direction.replace('_', ' ')}, recall@10": metrics[embedding][
            direction
        ]["recall@10"]
        for split, metrics in result.metrics.items()
        for embedding in ("parallel", "cascaded")
        for direction in ("speech_to_image", "image_to_speech")
        if embedding in metrics
    }


def is_result_of(path: Path, located: Located) -> bool:
    """Return whether a file holds a result of these weights."""
    return path.is_file() and bool(read_result(path).checkpoint_hash == located.digest())


def train_norms(device: str) -> None:
    """Train the cascaded model with and without keyword batch norm, and measure its keywords."""
    manifest = load_corpus("stamps")
    for norm in NORMS:
        folder = RUNS / "models" / f"keyword_norm-{norm}"
        config = resolve_config(NORM_MODEL, NORM_PRESET, model={"keywords": {"norm": norm}})
        pretrain(config, folder, auto_resume=True, device=device)
        located = Located(folder.as_posix(), "trained for the comparison")
        path = RESULTS / "keyword_norm" / f"keywords-{NORM_MODEL}-{norm}.json"
        measure(located, "keywords", manifest, path, config.seed, device, plot=PLOTTED)
