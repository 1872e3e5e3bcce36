"""What the leaderboard's tables are: sections, their columns, and rows of figures."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure of a system."""

    name: str
    title: str = ""
    """For people, where it says more than the name."""
    lower_is_better: bool = False
    digits: int = 1

    @property
    def heading(self) -> str:
        """Name it for people."""
        return self.title or self.name.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Section:
    """Tables of one protocol: comparable figures, and miniatures by themselves."""

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rank_by: str
    """The column that rows are ordered by."""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a row of figures is of; figures of one identity and column are averaged."""

    corpus: str
    system: str
    size: str
    detail: str = ""
    """Which of a system's embeddings, and the like."""
    runs: str = ""
    """Folder whose runs of one system are averaged, or the name of a single one."""
    mini: bool = False
    published: bool = False

    @property
    def label(self) -> str:
        """Name the system for people."""
        return f"{self.system}, {self.detail}" if self.detail else self.system


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number and where it is from."""

    section: str
    identity: Identity
    column: str
    value: float
    source: str
    """Who says so, or the result file's name."""
    link: str
    """Address, or path relative to the leaderboard."""
    note: str = ""
    """Shown behind the figure."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as shown: the mean of a system's runs."""

    value: float
    spread: float | None
    """Sample standard deviation of several runs."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system's figures."""

    identity: Identity
    cells: Mapping[str, Cell]


def rows_of(section: Section, figures: Iterable[Figure]) -> list[Row]:
    """Put figures into rows, in the order of the corpora and, within one, of merit."""
    grouped: dict[Identity, dict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for one in figures:
        if one.section == section.name:
            grouped[one.identity][one.column].append(one)
    rows = []
    for identity, by_column in grouped.items():
        cells = {
            column.name: _cell(by_column[column.name])
            for column in section.columns
            if column.name in by_column
        }
        rows.append(Row(identity=identity, cells=cells))
    best = section.column(section.rank_by)

    def order(row: Row) -> tuple:
        cell = row.cells.get(best.name)
        sign = 1 if best.lower_is_better else -1
        who = row.identity
        merit = sign * cell.value if cell else 0.0
        return (who.corpus, cell is None, merit, who.label, who.size, who.runs)

    return sorted(rows, key=order)


def _cell(figures: list[Figure]) -> Cell:
    values = [one.value for one in figures]
    return Cell(
        value=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        figures=tuple(figures),
    )


def shown(cell: Cell, column: Column) -> str:
    """Write a cell: the figure, and with several runs their spread."""
    text = f"{cell.value:.{column.digits}f}"
    if cell.spread is not None:
        text += f" ± {cell.spread:.{column.digits}f}"
    note = cell.figures[0].note
    return f"{text} ({note})" if note else text


def _columns(*names: str, lower: tuple[str, ...] = (), digits: int = 1) -> tuple[Column, ...]:
    return tuple(
        Column(name=name, lower_is_better=name in lower, digits=digits) for name in names
    )


SUPERB_COLUMNS = _columns(
    "PR", "KS", "IC", "QbE", "SF_F1", "SF_CER", "ASR", "SID", "ASV", "SD", "ER",
    lower=("PR", "SF_CER", "ASR", "ASV", "SD"), digits=2,
)  # fmt: skip
RECALL_COLUMNS = tuple(
    f"{direction} R@{k}" for direction in ("S2I", "I2S", "mean") for k in (1, 5, 10)
)
SLOTS = tuple(f"kw{number}" for number in range(1, 9))

PATTERNS = (
    "perfect match", "semantically related", "bucketing", "default token", "unexpected",
)  # fmt: skip

SECTIONS = (
    Section(
        name="superb",
        title="SUPERB",
        about="Frozen features under SUPERB's probes, in percent. PR: phone error rate; KS, IC, "
        "SID, ER: accuracy; QbE: maximum term-weighted value x 100; SF: slot F1 and character "
        "error rate; ASR: word error rate; ASV: equal error rate; SD: diarization error rate. "
        "superb_s is 1000 x (value - base) / (top - base) by SUPERB's reference points, mean "
        "within a task, then over all ten; a partial score is over the tasks that it names, and "
        "comparable only with scores over the same.",
        columns=(
            *SUPERB_COLUMNS,
            Column(name="superb_s", title="superb_s", digits=0),
            Column(name="partial", title="partial score", digits=0),
        ),
        rank_by="superb_s",
    ),
    Section(
        name="superb_hidden",
        title="SUPERB, hidden set",
        about="Other recordings than the public set: not comparable with it. ST: BLEU; SS: "
        "SI-SDRi.",
        columns=_columns(
            "PR", "SID", "ER", "ASR", "QbE_MAP", "QbE_EER", "ASV", "SD", "ST", "SS",
            lower=("PR", "ASR", "QbE_EER", "ASV", "SD"), digits=2,
        ),
        rank_by="PR",
    ),
    Section(
        name="retrieval",
        title="Image-speech retrieval",
        about="Recall at k in percent. S2I: speech to image; I2S: image to speech, right if any "
        "caption of the image is among the first k; mean: of both directions.",
        columns=_columns(*RECALL_COLUMNS),
        rank_by="mean R@10",
    ),
    Section(
        name="retrieval_validation",
        title="Image-speech retrieval, validation",
        about="The best validation recall that released checkpoints carry in their names, mean of "
        "both directions.",
        columns=_columns("R@1", "R@10", digits=2),
        rank_by="R@10",
    ),
    Section(
        name="keywords",
        title="Keywords",
        about="Percent of keywords with a word piece of the caption among their 5 nearest tokens, "
        "by keyword slot and on average; F1 of the distinct words that keywords name against the "
        "caption's, as this project defines it.",
        columns=(
            *_columns(*SLOTS, "average"),
            Column(name="chance", title="average, by chance"),
            Column(name="words_f1", title="words F1"),
        ),
        rank_by="average",
    ),
    Section(
        name="words",
        title="Word discovery",
        about="Every spoken word is labelled with a keyword. Recognition: share of a word's "
        "occurrences that have its most frequent label, mean over words heard 10 times or more, "
        "and percent of those at 75 % or more; then percent of words by what their label is.",
        columns=(
            *_columns("recognition"),
            Column(name="recognised_well", title="at 75 %"),
            *_columns(*PATTERNS),
        ),
        rank_by="recognition",
    ),
    Section(
        name="zerospeech",
        title="ZeroSpeech 2021 semantic",
        about="100 x Spearman's correlation of people's scores with negated distances, mean over "
        "data sets and mean weighted by their pairs.",
        columns=_columns(
            "dev_librispeech", "dev_synthetic", "test_librispeech", "test_synthetic",
            "test_weighted_librispeech", "test_weighted_synthetic", digits=2,
        ),
        rank_by="test_synthetic",
    ),
    Section(
        name="speed",
        title="Speed",
        about="On the machine that the corpus column names.",
        columns=(
            Column(name="train", title="training, examples/s"),
            Column(name="encode", title="encoding, recordings/s"),
            Column(name="real_time", title="encoding, x real time"),
        ),
        rank_by="encode",
    ),
)
