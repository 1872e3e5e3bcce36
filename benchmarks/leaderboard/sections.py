"""The tables of the board: those of `sections.yaml`, and those of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from s3prl_speechclip.config import read_yaml
from s3prl_speechclip.structures import TaskResult

from ..shared.benchmark import benchmark_titles, load_benchmark
from ..shared.board import CHANCE, Column, Figure, Section, recall_figures
from . import mteb_results
from .superb import MEASURED, superb_figures

TABLE, SHEET, PAGE = "LEADERBOARD.md", "leaderboard.csv", "leaderboard.html"
LAYOUT = read_yaml(Path(__file__).parent / "sections.yaml")


def probe_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a speech encoder's word probe; features of no layer are baselines."""
    for features in result.metrics["words"]:
        own = "/" in features
        yield Figure(
            column="words",
            keys=("words", features, "accuracy"),
            detail=features if own else "",
            baseline="" if own else features,
        )
    yield Figure(column="words", keys=(CHANCE, "words"), baseline=CHANCE)


def image_text_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of a CLIP's retrieval between images and captions."""
    directions = {"T2I": "text_to_image", "I2T": "image_to_text", "mean": "mean"}
    return recall_figures(result.metrics, ("trained",), directions)


def frequency_figures(result: TaskResult) -> Iterator[Figure]:
    """Return the figures of the words that a mini model names."""
    for split, found in result.metrics.items():
        for band in found["words"]:
            yield Figure(column=band, keys=(split, "words", band, "named"), split=split)


FIGURES: Mapping[str, Callable[[TaskResult], Iterable[Figure]]] = {
    "superb": superb_figures,
    "image_text": image_text_figures,
    "probe": probe_figures,
    "frequency": frequency_figures,
}


@cache
def all_sections() -> Mapping[str, Section]:
    """Return the sections by name, in order: those of the layout, and those of benchmarks."""
    found: dict[str, Section] = {}
    measured = {m.column: not m.higher_is_better for _, ms in MEASURED.values() for m in ms}
    for name, values in LAYOUT["sections"].items():
        columns, every = dict(values["columns"]), values.get("every", {})
        if name == "superb":  # further tasks come before SUPERB's score
            scores = {score: columns.pop(score) for score in ("superb_s", "partial")}
            for column, lower in measured.items():
                columns[column] = {**columns.get(column, {}), "lower_is_better": lower}
            columns |= scores
        found[name] = Section(
            name=name,
            title=values["title"],
            about=values["about"],
            rank_by=values["rank_by"],
            columns=tuple(Column(name=c, **{**every, **own}) for c, own in columns.items()),
            figures=FIGURES.get(name),
        )
    for name in benchmark_titles().keys() - {"leaderboard"}:
        if section := load_benchmark(name).section:
            found[section.name] = section
    order = [*LAYOUT["order"], *sorted(found)]
    return {name: found[name] for name in sorted(found, key=order.index)}


def section_of(task: str) -> Section | None:
    """Return the section that shows the results of a task."""
    if task == mteb_results.TASK:
        return replace(all_sections()["retrieval"], figures=mteb_results.mteb_figures)
    superb = task in MEASURED and MEASURED[task][1]
    name = "superb" if superb else {"image_text_retrieval": "image_text"}.get(task, task)
    return all_sections().get(name)
