"""The model cards of the mini encoders, from the Markdown templates beside this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...results import markdown_table
from ...structures import SAMPLE_RATE, TaskResult
from ..pictures import SOURCES
from .clip import ARCHITECTURE as CLIP
from .clip import KS, TRUNK_PACKAGE, TrainedClip
from .hubert import ARCHITECTURE as HUBERT
from .hubert import HubertRecipe, RoundConfig, TrainedHubert
from .report import template
from .speech import LICENCES, Recording, SpeechCorpus

PROBES = {
    "phones, other voice": ("phones", "frame_accuracy"),
    "phones, same voices": ("phones_same_voices", "frame_accuracy"),
    "phrases": ("phrases", "accuracy"),
    "words": ("words", "accuracy"),
}
"""Columns of the probes' table: task and figure."""


def clip_card(trained: TrainedClip, recall: TaskResult, hardware: str) -> str:
    """Write the card of the mini CLIP, from the training and the result of `evaluate_clip`."""
    scores = [
        (
            f"{split} ({found['images']} images)",
            model,
            *(f"{found[model]['mean'][f'recall@{k}']:.1f}" for k in KS),
        )
        for split, found in recall.metrics.items()
        for model in ("trained", "untrained", "chance")
    ]
    pictures = [
        (name, f"{count:,}", SOURCES[name].licence if name in SOURCES else "GPL-2")
        for name, count in trained.sources.items()
    ]
    parameters = sum(p.numel() for p in trained.encoder.parameters() if p.requires_grad)
    return template("clip_card").format(
        text=CLIP["text_cfg"],
        tokens=len(trained.encoder.vocabulary),
        trunk=TRUNK_PACKAGE,
        parameters=parameters / 1e6,
        pictures=_table(("source", "pictures", "licence"), pictures),
        notes=_list(trained.notes),
        config=trained.config,
        seed=trained.seed,
        minutes=trained.seconds / 60,
        hardware=hardware,
        scores=_table(("split", "model", *(f"recall@{k}" for k in KS)), scores),
    )


def hubert_card(
    recipe: HubertRecipe,
    trained: TrainedHubert,
    corpus: SpeechCorpus,
    probes: TaskResult,
    hardware: str,
) -> str:
    """Write the card of the mini HuBERT, from the training and the result of `evaluate_hubert`."""
    by_source: dict[str, list[Recording]] = {}
    for recording in corpus.recordings:
        by_source.setdefault(recording.source, []).append(recording)
    head = ("source", "recordings", "hours", "speakers", "languages", "synthetic", "licence")
    sources = [
        (
            name,
            f"{len(own):,}",
            f"{_hours(own):.2f}",
            str(len({r.speaker for r in own})),
            str(len({r.language for r in own})),
            "yes" if all(r.synthetic for r in own) else "no",
            LICENCES[name],
        )
        for name, own in by_source.items()
    ]
    rounds = [f"{n}. {_round(config)}" for n, config in enumerate(recipe.rounds, 1)]
    features = dict.fromkeys(n for task, _ in PROBES.values() for n in probes.metrics[task])
    scores = []
    for name in features:
        found = [probes.metrics[task].get(name, {}).get(key) for task, key in PROBES.values()]
        scores.append((name, *("" if value is None else f"{value:.1f}" for value in found)))
    return template("hubert_card").format(
        network=HUBERT,
        parameters=sum(p.numel() for p in trained.model.parameters()) / 1e6,
        hours=_hours(corpus.recordings),
        sources=_table(head, sources),
        notes=_list(corpus.notes),
        recipe=recipe,
        rounds="\n".join(rounds),
        first=recipe.rounds[0],
        begin=100 * recipe.masking.probability,
        minutes=trained.seconds / 60,
        hardware=hardware,
        accuracy=trained.accuracy,
        scores=_table(("features", *PROBES), scores),
    )


def _list(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows, even=False)


def _hours(recordings: Sequence[Recording]) -> float:
    return sum(r.length for r in recordings) / SAMPLE_RATE / 3600


def _round(config: RoundConfig) -> str:
    what = "MFCC" if config.layer is None else f"hidden state {config.layer}"
    text = f"{config.steps:,} steps on {config.units} k-means clusters of {what}"
    voices = config.voices
    if voices.speed > 1:
        text += f"; recordings played up to {voices.speed:g} times faster or slower"
    if voices.gain:
        text += f", with a random gain over frequency of {voices.gain:g} dB"
    if voices.noise:
        text += f", with white noise {voices.noise[0]:g} to {voices.noise[1]:g} dB under them"
    return text + "."
