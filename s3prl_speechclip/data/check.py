"""Check a corpus before training: counts, durations, overlaps of splits, broken rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tqdm import tqdm

from ..errors import AudioError, ImageError
from ..structures import SAMPLE_RATE
from .audio import audio_info, read_audio
from .images import open_image
from .manifest import Utterance

SHOWN = 10  # broken rows


@dataclass(frozen=True)
class Report:
    """Result of a check."""

    lines: tuple[str, ...]
    """Text for people."""
    broken: int
    """Number of rows that cannot be used."""


def check(root: Path, rows: Mapping[int, Utterance], faults: Mapping[int, str]) -> Report:
    """Decode all files of a corpus, and describe it.

    Args:
        root: folder that the paths are relative to.
        rows: recordings by line number of their list.
        faults: reasons of the rows that are known to be broken, by line number.
    """
    broken = dict(faults)
    seconds: dict[str, float] = {}
    converted = 0
    images: dict[str, str] = {}
    for line, row in tqdm(rows.items(), desc="files", unit="row", leave=False):
        path = root / row.audio
        try:
            info = audio_info(path)
            seconds[row.audio] = len(read_audio(path)) / SAMPLE_RATE
            converted += (info.sample_rate, info.channels) != (SAMPLE_RATE, 1)
        except AudioError as error:
            broken[line] = str(error)
            continue
        if row.image not in images:
            images[row.image] = _fault(root / row.image)
        if images[row.image]:
            broken[line] = images[row.image]
    sound = [row for line, row in rows.items() if line not in broken]
    splits: dict[str, list[Utterance]] = defaultdict(list)
    for row in sound:
        splits[row.split].append(row)
    lines = [f"{len(sound)} recordings of {len({row.image for row in sound})} images"]
    lines += [_describe(name, some, seconds) for name, some in splits.items()]
    if converted:
        lines.append(f"{converted} recordings are averaged to mono or resampled when they are read")
    for one, other in combinations(splits, 2):
        shared = {u.pair_id for u in splits[one]} & {u.pair_id for u in splits[other]}
        if shared:
            lines.append(f"'{one}' and '{other}' share {len(shared)} images")
    if broken:
        lines.append(f"{len(broken)} rows cannot be used:")
        lines += [f"  line {line}: {broken[line]}" for line in sorted(broken)[:SHOWN]]
        if len(broken) > SHOWN:
            lines.append(f"  and {len(broken) - SHOWN} more")
    return Report(tuple(lines), len(broken))


def _describe(split: str, rows: Sequence[Utterance], seconds: Mapping[str, float]) -> str:
    lengths = [seconds[row.audio] for row in rows]
    languages = ", ".join(sorted({row.language for row in rows}))
    speakers = len({row.speaker for row in rows} - {""})
    written = sum(bool(row.text) for row in rows)
    return (
        f"{split}: {len(rows)} recordings of {len({row.image for row in rows})} images, "
        f"{sum(lengths) / 3600:.2f} h ({min(lengths):.2f} to {max(lengths):.2f} s), "
        f"{languages}, {speakers} speakers named, {written} with a text"
    )


def _fault(image: Path) -> str:
    try:
        open_image(image)
        return ""
    except ImageError as error:
        return str(error)
