"""The one description of a corpus that everything after the readers works on.

A manifest is a folder's `manifest.jsonl`: a first line about the corpus, then one line a recording.
Paths in it are relative to the manifest's root, or absolute.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import CorpusError
from .files import read_lines

MANIFEST = "manifest.jsonl"  # in the corpus's folder
FORMAT = 1


@dataclass(frozen=True)
class Word:
    """A spoken word with its times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One recording of one caption of one image."""

    utterance_id: str
    audio: str
    image: str
    pair_id: int
    """Recordings and images with one id are one answer in retrieval and never negatives."""
    text: str
    """What is said, in its language, where known; may be empty."""
    split: str
    caption: str = ""
    """The image's written caption in English, where known."""
    speaker: str = ""
    language: str = "en"
    """ISO 639-1 code, with region where the corpus has it."""
    synthetic: bool = False
    duration: float = 0.0
    """Seconds; 0 where the corpus does not say."""
    words: tuple[Word, ...] = ()
    """Word times, where known."""

    @property
    def english(self) -> str:
        """The English caption: the image's own, else the spoken text in English, else empty."""
        return self.caption or (self.text if self.language.startswith("en") else "")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A corpus: its recordings in a fixed order, and which splits serve what."""

    corpus: str
    root: Path
    utterances: tuple[Utterance, ...]
    train_split: str = "train"
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    mini: bool = False
    notes: tuple[str, ...] = ()
    """What was left out, and other facts to show with any figure."""

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Give the recordings of one split, in the manifest's order.

        Raises:
            CorpusError: the corpus has no such split.
        """
        chosen = tuple(u for u in self.utterances if u.split == name)
        if not chosen:
            known = ", ".join(sorted({u.split for u in self.utterances})) or "none"
            raise CorpusError(f"{self.corpus} has no split '{name}'; it has: {known}")
        return chosen

    def train_on(self, languages: Sequence[str]) -> Manifest:
        """Leave recordings in other languages out of the training split.

        Args:
            languages: ISO 639-1; `en` takes `en-GB` as well. Empty: all.

        Raises:
            CorpusError: no training recording is in any of them.
        """
        if not languages:
            return self
        wanted = set(languages)
        kept = tuple(
            u
            for u in self.utterances
            if u.split != self.train_split or u.language.partition("-")[0] in wanted
        )
        lost = len(self.utterances) - len(kept)
        if not any(u.split == self.train_split for u in kept):
            raise CorpusError(f"{self.corpus} has no training recording in {sorted(wanted)}")
        note = f"training on {', '.join(languages)} only: {lost} recordings left out"
        return replace(self, utterances=kept, notes=(*self.notes, note))

    def train_also(self, other: Manifest) -> Manifest:
        """Add another corpus' training recordings to the training split."""
        first = 1 + max(u.pair_id for u in self.utterances)
        added = tuple(
            replace(
                u,
                utterance_id=f"{other.corpus}/{u.utterance_id}",
                audio=os.path.relpath(other.path(u.audio), self.root),
                image=os.path.relpath(other.path(u.image), self.root),
                pair_id=first + u.pair_id,
                split=self.train_split,
            )
            for u in other.split(other.train_split)
        )
        note = f"training on {len(added)} recordings of {other.corpus} as well"
        return replace(
            self,
            utterances=(*self.utterances, *added),
            notes=(*self.notes, note, *other.notes),
        )

    def path(self, relative: str) -> Path:
        """Give the place of a recording or image."""
        return self.root / relative

    def digest(self) -> str:
        """Name the manifest's content by SHA-256, over everything but its root."""
        return hashlib.sha256("\n".join(self._lines()).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the manifest; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest; its root is the folder that it lies in.

        Raises:
            CorpusError: the file is missing, of another format or damaged.
        """
        try:
            head, *rows = read_lines(path)
            about = json.loads(head)
            if about.pop("format", None) != FORMAT:
                raise CorpusError(f"'{path}' is a manifest of another format; delete it")
            utterances = [_utterance(json.loads(row)) for row in rows]
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(f"'{path}' is not a manifest ({error}); delete it") from error
        return cls(
            corpus=about["corpus"],
            root=path.parent,
            utterances=tuple(utterances),
            train_split=about["train_split"],
            dev_splits=tuple(about["dev_splits"]),
            test_splits=tuple(about["test_splits"]),
            mini=about["mini"],
            notes=tuple(about["notes"]),
        )

    def _lines(self) -> Sequence[str]:
        about = {
            "format": FORMAT,
            "corpus": self.corpus,
            "train_split": self.train_split,
            "dev_splits": self.dev_splits,
            "test_splits": self.test_splits,
            "mini": self.mini,
            "notes": self.notes,
        }
        rows = [json.dumps(about, ensure_ascii=False)]
        for utterance in self.utterances:
            row = asdict(utterance)
            row["words"] = [[w.text, round(w.start, 4), round(w.end, 4)] for w in utterance.words]
            rows.append(json.dumps(row, ensure_ascii=False))
        return rows


def _utterance(row: dict) -> Utterance:
    row["words"] = tuple(Word(*word) for word in row["words"])
    return Utterance(**row)
