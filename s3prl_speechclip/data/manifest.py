"""Description of a corpus, as all readers return it.

A manifest is a folder's `manifest.jsonl`: a first line about the corpus, then one line a recording.
Paths in it are relative to the manifest's root, or absolute.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..atomic import atomic_file
from ..errors import CorpusError, unknown_name
from .files import read_lines

MANIFEST = "manifest.jsonl"  # in the corpus's folder
FORMAT = 1
ABOUT = ("corpus", "train_split", "dev_splits", "test_splits", "mini", "notes")
"""Fields of the first line, beside the format."""


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
    """Transcript in the spoken language, where known; may be empty."""
    split: str
    caption: str = ""
    """Written English caption of the image, where known."""
    speaker: str = ""
    language: str = "en"
    """ISO 639-1 code, with region where the corpus has it."""
    synthetic: bool = False
    duration: float = 0.0
    """Seconds; 0 where the corpus does not say."""
    words: tuple[Word, ...] = ()
    """Word times, where known."""

    @property
    def spoken_language(self) -> str:
        """The language; all kinds of English are one."""
        return "en" if primary_language(self.language) == "en" else self.language

    @property
    def english(self) -> str:
        """English caption: the image's own, else the transcript if it is English, else empty."""
        return (self.caption or (self.text if self.spoken_language == "en" else "")).strip()


LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")
ROUNDING = 0.05  # seconds that word times may be off
SLACK = 1.0  # seconds that a word may begin after a duration, which may be in whole seconds
LARGEST_ID = 2**63 - 1


def primary_language(code: str) -> str:
    """Return a language's code without its region: `en` of `en-GB` and of `EN_us`."""
    return re.split("[-_]", code)[0].lower()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A corpus: its recordings in a fixed order, and the roles of its splits."""

    corpus: str
    root: Path
    utterances: tuple[Utterance, ...]
    train_split: str = "train"
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    mini: bool = False
    notes: tuple[str, ...] = ()
    """Facts to show with any figure, such as the recordings left out."""

    def split(self, name: str) -> tuple[Utterance, ...]:
        """Return the recordings of one split in order; raise an error where there is none."""
        chosen = tuple(u for u in self.utterances if u.split == name)
        if not chosen:
            known = ", ".join(sorted({u.split for u in self.utterances})) or "none"
            raise CorpusError(f"{self.corpus} has no split '{name}'; it has: {known}")
        return chosen

    def require(self, role: Literal["validation", "testing"]) -> Manifest:
        """Return the manifest if it has splits for a role, else raise an error."""
        if not (self.dev_splits if role == "validation" else self.test_splits):
            none = ", or without one: -o runner.eval_step=0" if role == "validation" else ""
            raise CorpusError(
                f"{self.corpus} has no split for {role}; choose another corpus with --data, and "
                f"train on this one beside it with -o data.also=[{self.corpus}]{none}"
            )
        return self

    def train_on(self, languages: Sequence[str]) -> Manifest:
        """Remove recordings in other languages from the training split; an error if all are.

        Args:
            languages: ISO 639-1 codes; `en` includes `en-GB` and `en_US`. Empty: all languages.
        """
        if not languages:
            return self
        train, wanted = self.train_split, {primary_language(code) for code in languages}
        kept = tuple(
            u for u in self.utterances if u.split != train or primary_language(u.language) in wanted
        )
        if not any(u.split == train for u in kept):
            raise CorpusError(
                f"{self.corpus} has no training recording in {', '.join(sorted(wanted))}; set "
                "data.languages, empty for all languages: -o data.languages=[]"
            )
        lost = len(self.utterances) - len(kept)
        note = f"training on {', '.join(languages)} only: {lost} recordings left out"
        return replace(self, utterances=kept, notes=(*self.notes, note))

    def train_also(self, other: Manifest) -> Manifest:
        """Add another corpus's training recordings to the training split."""
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
        notes = (*self.notes, note, *other.notes)
        return replace(self, utterances=(*self.utterances, *added), notes=notes)

    def path(self, relative: str) -> Path:
        """Return the path of a recording or image."""
        return self.root / relative

    def save(self, path: Path) -> None:
        """Write the manifest; the file appears whole or not at all."""
        rows: list[dict[str, Any]] = [{"format": FORMAT} | {n: getattr(self, n) for n in ABOUT}]
        for utterance in self.utterances:
            words = [[w.text, round(w.start, 4), round(w.end, 4)] for w in utterance.words]
            rows.append(asdict(utterance) | {"words": words})
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest; its root is the folder that it lies in."""
        rows = read_lines(path)
        try:
            about = json.loads(rows[0])
            if about["format"] != FORMAT:
                raise CorpusError(f"'{path}' is a manifest of another format; remove it")
            lists = {n: tuple(about[n]) for n in ("dev_splits", "test_splits", "notes")}
            values = {name: about[name] for name in ABOUT} | lists
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise CorpusError(
                f"'{path}' is not a manifest ({error}); remove it, and prepare its folder again"
            ) from error
        utterances = []
        for number, row in enumerate(rows[1:], 2):
            try:
                utterances.append(parse_utterance(json.loads(row)))
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"'{path}', line {number}: {error}; correct it") from error
        return cls(root=path.parent, utterances=tuple(utterances), **values)


FIELD_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "pair_id": int,
    "synthetic": bool,
    "duration": (int, float),
    "words": (list, tuple),
}
"""Types of an utterance's fields in JSON; the others are text."""


def parse_utterance(row: Any) -> Utterance:
    """Check a row of a manifest, and turn it into an utterance.

    A field that is null counts as absent.

    Args:
        row: fields of `Utterance` by name; `words` are lists of text, start and end.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {str(row)[:80]}")
    known = {field.name: field for field in fields(Utterance)}
    found = {name: value for name, value in row.items() if value is not None}
    for name, value in found.items():
        if name not in known:
            raise ValueError(unknown_name("field", name, known))
        wanted = FIELD_TYPES.get(name, str)
        if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
            raise ValueError(f"'{name}' is {json.dumps(value)[:80]}, of the wrong type")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"'{name}' holds half a character ({value[:80]!a})") from None
    for name, field in known.items():
        if field.default is MISSING and name not in found:
            raise ValueError(f"'{name}' is missing")
        if name in ("audio", "image", "split") and not found[name]:
            raise ValueError(f"'{name}' is empty")
    if abs(found.get("pair_id", 0)) > LARGEST_ID:
        raise ValueError(f"'pair_id' is {found['pair_id']}, beyond 64 bits")
    duration = found.get("duration", 0.0)
    if not 0 <= duration < math.inf:
        raise ValueError(f"'duration' is {duration}, no number of seconds")
    checked = {
        "language": _language(found.get("language") or "en"),
        "words": read_word_times(found.get("words", ()), duration),
    }
    return Utterance(**(found | checked))


def _language(code: str) -> str:
    """Write a language's code in one way, `en` or `en-GB`."""
    if not LANGUAGE.fullmatch(code):
        raise ValueError(f"'language' is '{code[:80]}', no ISO 639 code such as en or en-GB")
    primary, *parts = re.split("[-_]", code)
    # RFC 5646: regions have two letters, scripts four.
    written = ({2: part.upper(), 4: part.title()}.get(len(part), part.lower()) for part in parts)
    return "-".join((primary.lower(), *written))


def read_word_times(spoken: Iterable[Any], duration: float = 0.0) -> tuple[Word, ...]:
    """Check word times, lists of text, start and end in seconds.

    Args:
        spoken: the lists.
        duration: of the recording, seconds; 0: not known.

    Raises:
        ValueError: something else, or times that no recording can have.
    """
    try:
        times = [(text, float(start), float(end)) for text, start, end in spoken]
    except (TypeError, ValueError):
        raise ValueError("'words' must be lists of text, start and end in seconds") from None
    words = []
    for text, start, end in times:
        if not isinstance(text, str):
            raise ValueError(f"'words' has {json.dumps(text)[:80]} in place of a word")
        if not (-ROUNDING <= start <= end + ROUNDING and end < math.inf):
            raise ValueError(
                f"'words' has '{text}' from {start} to {end}; expected seconds, the start before "
                "the end"
            )
        if duration and start > duration + SLACK:
            raise ValueError(
                f"'words' has '{text}' from {start} s on, in a recording of {duration} s"
            )
        words.append(Word(text, max(0.0, start), max(0.0, start, end)))
    return tuple(words)
