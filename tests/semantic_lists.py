"""Lists of ZeroSpeech's semantic set, written as the official set has them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from s3prl_speechclip.data.corpora.zerospeech import GOLD_COLUMNS, PAIR_COLUMNS, Pair, Token


def write_gold(path: Path, tokens: Iterable[Token]) -> None:
    _write(path, [GOLD_COLUMNS, *((t.type, t.filename, t.word, t.voice) for t in tokens)])


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    rows = [
        (p.type, p.dataset, p.word_1, p.word_2, _cell(p.similarity), _cell(p.relatedness))
        for p in pairs
    ]
    _write(path, [PAIR_COLUMNS, *rows])


def _cell(score: float) -> str:
    return "" if math.isnan(score) else f"{score:g}"


def _write(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)
