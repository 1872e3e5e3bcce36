"""The speech corpus as it lies in the cache: all samples after one another, and what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ...data.manifest import Word
from ...errors import CorpusError
from ...structures import SAMPLE_RATE
from ..synthesis import Phone

SAMPLES = "samples.i16"  # 16-bit native integers, all recordings after one another
RECORDINGS = "recordings.jsonl"
NOTES = "notes.json"
SPLITS = ("train", "dev", "probe_train", "probe_test")


@dataclass(frozen=True)
class Source:
    """Where recordings come from."""

    what: str
    licence: str
    """As the package's copyright file states it."""


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "tuxpaint-stamps-default": Source("stamps described by people in 13 languages", "GPL-2"),
        "fillets-ng-data-nl": Source("acted Dutch dialogues of a game", "GPL-2"),
        "asterisk-core-sounds-en-wav": Source("English telephone prompts", "CC-BY-SA-3.0"),
        "hedgewars-data": Source("phrases of a game's voice packs, 5 languages", "GFDL-1.3"),
        "ktuberling-data": Source("spoken names of things, 22 languages", "GPL-2+"),
        "stamps read aloud": Source("stamp captions (GPL-2) by flite and espeak-ng", "GPL-2"),
        "asterisk read aloud": Source(
            "transcripts of the telephone prompts by flite and espeak-ng", "CC-BY-SA-3.0"
        ),
        "words read aloud": Source(
            "random English words, in wamerican (SCOWL, permissive) and in the CMU dictionary "
            "(BSD), by flite and espeak-ng",
            "none of its own",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording and what is known of it."""

    recording_id: str
    start: int
    """First sample, of the corpus."""
    length: int
    """Samples."""
    source: str
    """A key of `SOURCES`."""
    speaker: str
    language: str
    """ISO 639."""
    split: str
    """One of `SPLITS`."""
    text: str = ""
    """What is said, where known."""
    phrase: str = ""
    """What is said, by the name that several speakers' recordings of it share."""
    synthetic: bool = False
    phones: tuple[Phone, ...] = ()
    """Of recordings of the probe's splits: sounds with their times."""
    words: tuple[Word, ...] = ()
    """Of recordings of the probe's splits."""


@dataclass(frozen=True)
class Count:
    """How much of the corpus comes from one source."""

    recordings: int
    hours: float
    speakers: int
    languages: tuple[str, ...]
    synthetic: bool
    licence: str


@dataclass(frozen=True)
class SpeechCorpus:
    """Speech, 16 kHz mono."""

    recordings: tuple[Recording, ...]
    samples: NDArray[np.int16]
    """All recordings' samples after one another; mapped from the disk."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def waveform(self, index: int) -> NDArray[np.float32]:
        """Give a recording's samples, (L,) in [-1, 1]."""
        recording = self.recordings[index]
        samples = self.samples[recording.start : recording.start + recording.length]
        return samples.astype(np.float32) / np.float32(32768)

    def split(self, name: str) -> tuple[int, ...]:
        """Give the indices of a split's recordings, in order.

        Raises:
            CorpusError: the corpus has no such split.
        """
        chosen = tuple(i for i, r in enumerate(self.recordings) if r.split == name)
        if not chosen:
            known = ", ".join(sorted({r.split for r in self.recordings})) or "none"
            raise CorpusError(f"the speech corpus has no split '{name}'; it has: {known}")
        return chosen

    def counts(self) -> dict[str, Count]:
        """Count recordings and hours by source; all splits together."""
        counted = {}
        for source in dict.fromkeys(r.source for r in self.recordings):
            own = [r for r in self.recordings if r.source == source]
            counted[source] = Count(
                recordings=len(own),
                hours=sum(r.length for r in own) / SAMPLE_RATE / 3600,
                speakers=len({r.speaker for r in own}),
                languages=tuple(sorted({r.language for r in own})),
                synthetic=all(r.synthetic for r in own),
                licence=SOURCES[source].licence if source in SOURCES else "unknown",
            )
        return counted

    @property
    def hours(self) -> float:
        """Length of all recordings."""
        return sum(r.length for r in self.recordings) / SAMPLE_RATE / 3600


def save(recordings: tuple[Recording, ...], notes: tuple[str, ...], folder: Path) -> None:
    """Write what the samples are."""
    with open(folder / RECORDINGS, "w", encoding="utf-8") as handle:
        for recording in recordings:
            row = {key: value for key, value in asdict(recording).items() if value not in ("", ())}
            for times, name in (("phones", "symbol"), ("words", "text")):
                if times in row:
                    row[times] = [
                        [t[name], round(t["start"], 4), round(t["end"], 4)] for t in row[times]
                    ]
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / NOTES).write_text(json.dumps(notes, ensure_ascii=False, indent=1), encoding="utf-8")


def load(folder: Path) -> SpeechCorpus:
    """Read a corpus.

    Raises:
        CorpusError: a file is missing, damaged or shorter than the others say.
    """
    try:
        rows = (folder / RECORDINGS).read_text(encoding="utf-8").splitlines()
        recordings = tuple(_recording(json.loads(row)) for row in rows)
        notes = tuple(json.loads((folder / NOTES).read_text(encoding="utf-8")))
        samples = np.memmap(folder / SAMPLES, np.int16, "r")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"'{folder}' is no speech corpus ({reason}); delete it") from error
    expected = max((r.start + r.length for r in recordings), default=0)
    if len(samples) != expected:
        raise CorpusError(
            f"'{folder / SAMPLES}' holds {len(samples)} samples, expected {expected}; delete the "
            "folder"
        )
    return SpeechCorpus(recordings, samples, notes)


def _recording(row: dict) -> Recording:
    row["phones"] = tuple(Phone(*times) for times in row.get("phones", ()))
    row["words"] = tuple(Word(*times) for times in row.get("words", ()))
    return Recording(**row)
