"""The recipe: train the mini encoders and the models on them, ship and measure them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping

import torch

from ...data.corpora import load_corpus
from ...results import write_result
from .cards import clip_card, hubert_card
from .clip import evaluate_clip, ship_clip, train_clip
from .clip_data import load_pictures
from .hubert import HubertRecipe, ship_hubert, train_hubert
from .models import ASSETS, CARD, RESULTS, RUNS, train_models, train_norms
from .probe import evaluate_hubert
from .report import models_report, norm_report
from .speech import load_speech

TABLE = "README.md"
NORM_REPORT = "keyword_norm.md"


def make_hubert(device: str) -> None:
    """Train the mini HuBERT, probe it, ship it with its card."""
    corpus = load_speech()
    recipe = HubertRecipe()
    trained = train_hubert(corpus, recipe, RUNS / "hubert", device)
    folder = ship_hubert(trained.model, ASSETS / "hubert")
    result = evaluate_hubert(folder, corpus, load_corpus("stamps"), recipe.seed)
    write_result(result, RESULTS / "hubert.json")
    card = hubert_card(recipe, trained, corpus, result, hardware())
    (folder / CARD).write_text(card, encoding="utf-8")


def make_clip(device: str) -> None:
    """Train the mini CLIP, measure it on pictures that it never saw, ship it with its card."""
    manifest = load_corpus("stamps")
    pictures, notes = load_pictures()
    trained = train_clip(manifest, pictures, RUNS / "clip", device=device, notes=notes)
    folder = ship_clip(trained.encoder, ASSETS / "clip")
    result = evaluate_clip(folder, manifest, trained.seed)
    write_result(result, RESULTS / "clip.json")
    (folder / CARD).write_text(clip_card(trained, result, hardware()), encoding="utf-8")


def make_keyword_norm(device: str) -> None:
    """Train the slides' early set-up with and without keyword batch norm, and compare keywords."""
    train_norms(device)
    text = norm_report(RESULTS / "keyword_norm")
    (RESULTS / NORM_REPORT).write_text(text, encoding="utf-8")


def make_table(device: str) -> None:
    """Write the table of all runs from their committed results."""
    (RESULTS / TABLE).write_text(models_report(RESULTS / "runs"), encoding="utf-8")


def hardware() -> str:
    """Describe what this machine computes with, without naming it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} of an {platform.machine()} processor"


PARTS: Mapping[str, Callable[[str], None]] = {
    "hubert": make_hubert,
    "clip": make_clip,
    "models": train_models,
    "keyword_norm": make_keyword_norm,
    "table": make_table,
}
"""Steps of the recipe, each given the device."""
