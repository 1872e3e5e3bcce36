"""The recipe: train the mini encoders and the models on them, ship and measure them.

Each step skips what is done and resumes what was interrupted. From nothing all of it takes most of
a day on two cores. Sums of floats differ between machines: an encoder or a model that is trained
again has other weights and somewhat other scores.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ...atomic import atomic_file
from ...benchmarks.shared.benchmark import evaluate
from ...checkpoints.locate import Located
from ...checkpoints.native import WEIGHTS_FILE, write_checkpoint
from ...config import merge
from ...data.corpora import load_corpus
from ...hashing import file_hash
from ...model.card import model_card
from ...model.config import SEGMENTATIONS, VARIANTS
from ...model.speechclip import SpeechClip
from ...pretrain.config import resolve_config
from ...pretrain.train import pretrain
from ...results import markdown_table, read_result, write_result
from ...structures import SAMPLE_RATE, TaskResult
from ..sets.stamps import DEV_SPLITS
from . import units
from .clip import TRUNK_PACKAGE, ClipRecipe, ship_clip, train_clip
from .clip_data import load_pictures, training_pictures
from .evaluation import evaluate_clip, evaluate_hubert
from .frequency import evaluate_frequency, frequency_tables
from .hubert import HubertRecipe, ship_hubert, train_hubert
from .report import NO_NORM, models_report
from .speech import load_speech
from .tried import TRIALS, TRIED_MODEL, TRIED_STEPS, tried_figures, tried_table

logger = logging.getLogger(__name__)

ASSETS = Path("s3prl_speechclip") / "assets" / "mini"
RUNS = Path("result") / "mini"
RESULTS = Path("benchmarks") / "results" / "mini"
RUN_RESULTS = RESULTS / "runs"
TRIED = RESULTS / "tried.csv"
CARD = TABLE = "README.md"
SEEDS = (0, 1, 2)
RUNNER = {"save_step": 250, "log_step": 20}
DATA = {"batch_size": 512}
MODELS: Mapping[str, tuple[str, int, str, Mapping[str, Any]]] = {
    "speechclip_hybrid": ("speechclip_hybrid", 1000, "", {}),
    "speechclip_parallel": ("speechclip_parallel", 1000, "", {}),
    **{
        name: (name, 500, "speechclip_hybrid", {})
        for name in ("speechclip_hybrid_plus", "speechclip_plus", "speechclip_cascaded")
    },
    NO_NORM: ("speechclip_hybrid", 1000, "", {"keywords": {"norm": "none"}}),
}
"""Variant, steps, the model whose weights it begins with where they fit, and what else differs.

Keywords alone learn many times later than beside the parallel embedding, whose loss teaches the
attention that both share."""
WORDS = "speechclip_words"
WORD_RUNS = RUNS / "words"
WORD_RESULTS = RESULTS / "words"
WORD_SEEDS = (0, 1, 2)
WORD_STEPS = 500
WORD_LOSSES: Mapping[str, Mapping[str, float]] = {
    "plain": {},
    "formal": {"perplexity_weight": 0.1, "adversarial_weight": 0.1},
}
"""Weights of the objective by what runs are called."""
SHIPPED_WORDS = ("cif", "plain")
"""Segmentation and losses of the word-by-word model that ships: of segments that it finds itself,
those with the best recall."""
ABOUT = {
    # The pictures and recordings of stamps are under the GPL-2.
    "licence": "gpl-2.0",
    "data_licences": "stamps: GPL-2; data of the encoders: see the cards of the mini HuBERT and "
    "CLIP",
    "limits": "Trained for minutes on short captions, half of them read in English by synthetic "
    "voices, half spoken by people, nearly all in other languages: it knows some hundred words of "
    "such captions, hardly any of other languages, and most keywords that it names were not said. "
    "Use it to try things out; publish nothing that it scores.",
}
"""Fields of the cards of shipped models."""


def make_hubert(device: str) -> None:
    """Train the mini HuBERT, probe it, ship it with its card."""
    corpus, recipe = load_speech(), HubertRecipe()
    folder = _run_folder("hubert", recipe, corpus.recordings.to_csv())
    shipped = ship_hubert(train_hubert(corpus, recipe, folder, device), ASSETS / "hubert")
    result = probe_encoder(shipped)
    samples = corpus.recordings.groupby("source", sort=False)["length"].sum()
    hours = [(name, f"{count / SAMPLE_RATE / 3600:.1f}") for name, count in samples.items()]
    scores = [(name, f"{found['accuracy']:.1f}") for name, found in result.metrics["words"].items()]
    _write_card(
        shipped,
        recipe=recipe,
        units=units,
        hours=markdown_table(("source", "hours"), hours),
        scores=markdown_table(("features", "words"), scores),
    )


def make_clip(device: str) -> None:
    """Train the mini CLIP, measure it on pictures that it never saw, ship it with its card."""
    manifest, recipe = load_corpus("stamps"), ClipRecipe()
    pictures, notes = load_pictures()
    pictures, left_out = training_pictures(manifest, pictures)
    folder = _run_folder("clip", recipe, [(p.name, p.captions, p.tags) for p in pictures])
    encoder = train_clip(pictures, folder, recipe, device)
    shipped = ship_clip(encoder, ASSETS / "clip")
    result = probe_encoder(shipped)
    models = ("trained", "chance")
    scores = [
        (
            f"{split} ({found['images']} images)",
            *(f"{found[m]['mean']['recall@10']:.1f}" for m in models),
        )
        for split, found in result.metrics.items()
    ]
    _write_card(
        shipped,
        recipe=recipe,
        tokens=len(encoder.vocabulary),
        trunk=TRUNK_PACKAGE,
        notes="\n".join(f"- {note}" for note in [*notes, *left_out]),
        scores=markdown_table(("split", *models), scores),
    )


def make_models(device: str) -> None:
    """Train and measure the models with several seeds, and ship the best seed of each name.

    Best is by recall on validation.
    """
    for seed, name in product(SEEDS, MODELS):
        train_model(name, seed, device)
    for name in MODELS:
        if name in VARIANTS:
            _ship(name, [_model_folder(name, seed) for seed in SEEDS], device)


def train_model(name: str, seed: int, device: str) -> None:
    """Train one of `MODELS` with one seed, and measure it."""
    variant, steps, start, changes = MODELS[name]
    folder, runner = _model_folder(name, seed), _runner(steps)
    init = _model_folder(start, seed).as_posix() if start else ""
    config = resolve_config(variant, seed=seed, init=init, runner=runner, data=DATA, model=changes)
    if pretrain(config, folder, auto_resume=True, device=device).interrupted:
        raise KeyboardInterrupt
    run = Located(folder.as_posix(), "trained for the table")
    _measure(run, "retrieval", RUN_RESULTS, seed, device, keep_states=True)
    if VARIANTS[variant].keywords is not None:
        _measure(run, "keywords", RUN_RESULTS, seed, device, keep_states=True, plot=0)


def make_words(device: str) -> None:
    """Train and measure the word-by-word model, and ship it.

    Every segmentation, with and without formal supervision, with several seeds, from the weights of
    the hybrid that ships. Benchmarks of words measure a model with the segmentation that it was
    trained with, retrieval with the one that it has for bare recordings.
    """
    for seed, losses, segmenter in product(WORD_SEEDS, WORD_LOSSES, SEGMENTATIONS):
        train_words(segmenter, losses, seed, device)
    _ship(WORDS, [_words_folder(*SHIPPED_WORDS, seed) for seed in WORD_SEEDS], device)


def train_words(segmenter: str, losses: str, seed: int, device: str) -> None:
    """Train the word-by-word model by one segmentation with one seed, and measure it."""
    folder = _words_folder(segmenter, losses, seed)
    model = {"words": {"segmenter": segmenter}, "objective": WORD_LOSSES[losses]}
    runner = _runner(WORD_STEPS)
    init = (ASSETS / "speechclip_hybrid").as_posix()
    config = resolve_config(WORDS, seed=seed, init=init, runner=runner, model=model)
    if pretrain(config, folder, auto_resume=True, device=device).interrupted:
        raise KeyboardInterrupt
    run = Located(folder.as_posix(), "trained for the table")
    by = {"segmenter": segmenter}
    _measure(run, "words", WORD_RESULTS, seed, device, **by, keep_states=True)
    _measure(run, "transcribe", WORD_RESULTS, seed, device, **by, keep_states=True)
    _measure(run, "keywords", WORD_RESULTS, seed, device, **by, keep_states=True, plot=0)
    _measure(run, "retrieval", WORD_RESULTS, seed, device, keep_states=True)


def make_tried(device: str) -> None:
    """Train models with settings changed, and measure each on the validation splits."""
    rows = pd.read_csv(TRIED).to_dict("records") if TRIED.is_file() else []
    for name in TRIALS:
        if any(row["setting"] == name for row in rows):
            continue
        rows.append(try_setting(name, device))
        rows.sort(key=lambda row: [*TRIALS].index(row["setting"]))
        with atomic_file(TRIED) as partial:
            pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n")


def try_setting(name: str, device: str) -> dict[str, Any]:
    """Train one of `TRIALS`, and return its row of the table."""
    kept: dict[str, dict[str, Any]] = {
        "retrieval": {"keep_states": True},
        "keywords": {"keep_states": True, "plot": 0},
    }
    folder = RUNS / "tried" / re.sub(r"\W+", "_", name)
    runner = {**RUNNER, "total_steps": TRIED_STEPS, "eval_step": 0}
    values = merge({"runner": runner, "data": DATA}, TRIALS[name])
    config = resolve_config(TRIED_MODEL, seed=SEEDS[0], **values)
    if pretrain(config, folder, auto_resume=True, device=device).interrupted:
        raise KeyboardInterrupt
    row: dict[str, Any] = {
        "setting": name,
        "seed": config.seed,
        "steps": config.runner.total_steps,
        "hardware": SpeechClip.from_pretrained(folder).about["hardware"],
        "checkpoint": Located(folder.as_posix(), "tried").digest(),
    }
    for split, task in product(DEV_SPLITS, kept):
        found = evaluate(folder, task, corpus="stamps", split=split, device=device, **kept[task])
        row |= tried_figures(found)
    return row


def make_frequency(device: str) -> None:
    """Measure which words the papers' models that ship name, by how many pictures taught them."""
    for name in MODELS:
        if name not in VARIANTS or VARIANTS[name].keywords is None:
            continue
        path = RESULTS / f"frequency-{name}.json"
        if not is_result_of(path, Located((ASSETS / name).as_posix(), "shipped")):
            write_result(evaluate_frequency(ASSETS / name, device), path)


def make_table(device: str) -> None:
    """Write the table of all runs from their committed results."""
    text = models_report(RUN_RESULTS, WORD_RESULTS, tried_table(TRIED), *frequency_tables(RESULTS))
    (RESULTS / TABLE).write_text(text, encoding="utf-8")


PARTS: Mapping[str, Callable[[str], None]] = {
    "hubert": make_hubert,
    "clip": make_clip,
    "models": make_models,
    "words": make_words,
    "tried": make_tried,
    "frequency": make_frequency,
    "table": make_table,
}
"""Steps of the recipe, each given the device."""


def probe_encoder(folder: Path) -> TaskResult:
    """Return the result of a mini encoder that ships, measured where its weights have none yet."""
    path = RESULTS / f"{folder.name}.json"
    digest = file_hash(folder / WEIGHTS_FILE)
    if not path.is_file() or read_result(path).checkpoint_hash != digest:
        measure = {"hubert": evaluate_hubert, "clip": evaluate_clip}[folder.name]
        write_result(measure(folder, load_corpus("stamps")), path)
    return read_result(path)


def is_result_of(path: Path, located: Located) -> bool:
    """Return whether a file holds a result of these weights."""
    return path.is_file() and bool(read_result(path).checkpoint_hash == located.digest())


def _run_folder(name: str, *made_of: object) -> Path:
    """Return the folder of a training run; another recipe or other data have another."""
    return RUNS / f"{name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:8]}"


def _runner(steps: int) -> dict[str, int]:
    """Return the runner's settings; validated once, so that each run ends with as many steps."""
    return {**RUNNER, "total_steps": steps, "eval_step": steps}


def _model_folder(name: str, seed: int) -> Path:
    return RUNS / "models" / f"{name}-seed{seed}"


def _words_folder(segmenter: str, losses: str, seed: int) -> Path:
    return WORD_RUNS / f"{segmenter}-{losses}-seed{seed}"


def _write_card(folder: Path, **values: object) -> None:
    """Fill the template of a shipped encoder's card."""
    template = Path(__file__).with_name(f"{folder.name}_card.md").read_text(encoding="utf-8")
    (folder / CARD).write_text(template.format(**values), encoding="utf-8")


def _measure(
    run: Located, task: str, results: Path, seed: int, device: str, **options: Any
) -> None:
    """Write a result of a run, unless it is there already."""
    path = results / f"{task}-{Path(run.source).name}.json"
    if not is_result_of(path, run):
        result = evaluate(run.source, task, corpus="stamps", device=device, **options)
        write_result(replace(result, seed=seed), path)


def _ship(name: str, folders: Sequence[Path], device: str) -> None:
    """Write the best seed's model into the package, float16, with its card."""
    models = {folder: SpeechClip.from_pretrained(folder) for folder in folders}
    best = max(models.values(), key=lambda each: float(each.about["validation_recall@10"]))
    write_checkpoint(ASSETS / name, best.stored(), half=True)
    write_model_card(name, device)
    logger.info("%s: seed %s ships", name, best.about["seed"])


def write_model_card(name: str, device: str) -> None:
    """Write the card of a model that ships, with the recall of its float16 weights."""
    folder, results = ASSETS / name, RESULTS.parent / "stamps"
    shipped = Located(folder.as_posix(), "shipped")
    _measure(shipped, "retrieval", results, 0, device, keep_states=True)
    result = read_result(results / f"retrieval-{name}.json")
    recall = {
        f"{split}, {embedding}, recall@10": metrics[embedding]["mean"]["recall@10"]
        for split, metrics in result.metrics.items()
        for embedding in ("parallel", "cascaded")
        if embedding in metrics
    }
    model = SpeechClip.from_pretrained(folder)
    about = {**model.about, **ABOUT, "recall": recall}
    card = model_card(model.config, about, model.trainable_parameters())
    (folder / CARD).write_text(card, encoding="utf-8")
