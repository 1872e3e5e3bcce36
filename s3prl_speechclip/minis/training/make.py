"""`make mini`: train the small encoders and the five models on them, ship and measure them."""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...checkpoints.locate import Located
from ...cli import benchmark
from ...cli.common import run
from ...data.corpora import load_corpus
from ...model.config import VARIANTS
from ...pretrain.config import resolve_config
from ...results import markdown_table, write_result
from .. import pictures
from ..speech import load_speech
from .clip import train_clip
from .clip_card import clip_card
from .clip_release import evaluate_clip, ship_clip
from .hubert_card import hubert_card
from .hubert_rounds import HubertRecipe, ship, train_hubert
from .keyword_norm import NAME, PRESET, figures, frequent, read_both, train_both
from .models import CARD, SEEDS, Folders, is_result_of, train_models
from .probe_hubert import evaluate_hubert
from .table import claims, keyword_rows, read_runs, recall_rows

logger = logging.getLogger(__name__)

ASSETS = Path("s3prl_speechclip") / "assets" / "mini"
RUNS = Path("result") / "mini"
RESULTS = Path("benchmarks") / "results" / "mini"
TABLE = "README.md"
BENCHMARKS: Mapping[str, str] = {
    "retrieval": "stamps",
    "keywords": "stamps",
    "words": "stamps",
    "zerospeech": "zerospeech",
}
"""Benchmarks of the shipped models, and the folder of their results."""
NORM_REPORT = "keyword_norm.md"


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    p = argparse.ArgumentParser(prog="mini", description=__doc__)
    p.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    p.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    return p


def command(argv: Sequence[str] | None) -> Path:
    """Do the parts in order; what is done already is not done again. Gives the table."""
    args = parser().parse_args(argv)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser().error(f"unknown part '{unknown[0]}'; there are {', '.join(PARTS)}")
    for part, make in PARTS.items():
        if not args.parts or part in args.parts:
            make(args.device)
    return RESULTS / TABLE


def make_hubert(device: str) -> None:
    """Train the mini HuBERT, probe it, ship it with its card."""
    corpus = load_speech()
    recipe = HubertRecipe()
    trained = train_hubert(corpus, recipe, RUNS / "hubert", device)
    folder = ship(trained.model, ASSETS / "hubert")
    result = evaluate_hubert(folder, corpus, load_corpus("stamps"), recipe.seed)
    write_result(result, RESULTS / "hubert.json")
    card = hubert_card(recipe, trained, corpus, result, hardware())
    (folder / CARD).write_text(card, encoding="utf-8")


def make_clip(device: str) -> None:
    """Train the mini CLIP, measure it on pictures that it never saw, ship it with its card."""
    manifest = load_corpus("stamps")
    trained = train_clip(manifest, pictures.read(), RUNS / "clip", device=device)
    folder = ship_clip(trained.encoder, ASSETS / "clip")
    result = evaluate_clip(folder, manifest, trained.seed)
    write_result(result, RESULTS / "clip.json")
    (folder / CARD).write_text(clip_card(trained, result, hardware()), encoding="utf-8")


def make_models(device: str) -> None:
    """Train the five models, three seeds each."""
    folders = Folders(runs=RUNS / "models", results=RESULTS / "runs", shipped=ASSETS)
    train_models(tuple(VARIANTS), folders, SEEDS, device)


def make_keyword_norm(device: str) -> None:
    """Train the slides' early set-up with and without keyword batch norm, and compare keywords."""
    results = RESULTS / "keyword_norm"
    train_both(RUNS / "models", results, device)
    (RESULTS / NORM_REPORT).write_text(norm_report(results), encoding="utf-8")


def make_results(device: str) -> None:
    """Measure the shipped models by all benchmarks, and gather the leaderboard."""
    for name, variant in VARIANTS.items():
        located = Located((ASSETS / name).as_posix(), "shipped")
        for task, folder in BENCHMARKS.items():
            path = RESULTS.parent / folder / f"{task}-{name}.json"
            of_keywords = task in ("keywords", "words")
            if is_result_of(path, located) or (of_keywords and variant.keywords is None):
                continue
            options = ["-u", name, "-k", located.source, "--device", device, "--out", str(path)]
            keep = ["--keep-states"] if task in ("retrieval", "keywords") else []
            benchmark.command([task, *options, *keep])
    benchmark.command(["leaderboard"])


def make_table(device: str) -> None:
    """Write the table of all runs from their committed results."""
    (RESULTS / TABLE).write_text(table(RESULTS / "runs"), encoding="utf-8")


def norm_report(results: Path) -> str:
    """Give the Markdown of the comparison with and without keyword batch norm."""
    both = read_both(results)
    steps = resolve_config(NAME, PRESET).runner.total_steps
    return "\n".join(
        [
            "# Keywords with and without batch norm",
            "",
            "`speechclip_cascaded` in the slides' early set-up (preset `slides_mini`: batch 240, "
            f"InfoNCE at a fixed temperature of 0.1), {steps} steps on `stamps` and "
            "`named_pictures`, seed 0, without keyword batch norm and with it. `make mini` makes "
            "both, and writes this file from the results in `keyword_norm/`, where the plots of "
            "keywords among CLIP's tokens are.",
            "",
            markdown_table(*figures(both)),
            "",
            "Hit rate and its chance in percent; distinct: different keywords of a split; spread: "
            "standard deviation of keywords over that of tokens; shift: distance of the means in "
            "that unit; plane: percent of the keywords' variance in the plane of the tokens' first "
            "two principal components.",
            "",
            "The commonest keywords of `test_image`, and how often they came:",
            "",
            *(f"- {title}: {words}." for title, words in frequent(both)),
            "",
        ]
    )


def table(results: Path) -> str:
    """Give the Markdown of the results of all runs."""
    runs = read_runs(results)
    return "\n".join(
        [
            "# The five models on the mini encoders",
            "",
            "Trained and tested on `stamps`; mean ± standard deviation over seeds, in percent. "
            "These are miniatures: their figures say nothing of the published models. `make mini` "
            "trains what is missing, and writes this file from the result files beside it.",
            "",
            "## Recall@10",
            "",
            markdown_table(*recall_rows(runs)),
            "",
            "## Keywords",
            "",
            "Hit rate: keywords with a token of the English caption among their five nearest; "
            "keywords: how many an utterance has.",
            "",
            markdown_table(*keyword_rows(runs)),
            "",
            "## The papers' claims, in miniature",
            "",
            "A difference counts where it exceeds two standard errors over seeds. All runs are "
            "equally short: a model whose hit rate is no higher than chance has not learned to "
            "name words yet, and a line about it says which model learns sooner, not which is "
            "better in the end.",
            "",
            *(f"- {line}" for line in claims(runs)),
            "",
        ]
    )


def hardware() -> str:
    """Say what this machine computes with, without naming it."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} of an {platform.machine()} processor"


PARTS: Mapping[str, Callable[[str], None]] = {
    "hubert": make_hubert,
    "clip": make_clip,
    "models": make_models,
    "keyword_norm": make_keyword_norm,
    "table": make_table,
    "results": make_results,
}

main = run(command)

if __name__ == "__main__":
    sys.exit(main())
