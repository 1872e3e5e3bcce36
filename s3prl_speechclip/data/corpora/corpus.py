"""The declaration of a corpus, and the checks that all readers share."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ...errors import CorpusError
from ..files import WAV_HEADER, read_json
from ..manifest import Manifest, Utterance

log = logging.getLogger(__name__)

ROOT_VARIABLE = "S3PRL_SPEECHCLIP_DATA"  # a folder that holds one folder a corpus
LEFT_OUT = 0.05  # share of a published split that may be unreadable
SAMPLE = 32  # files whose place decides which folder is meant


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus of recordings and images, as one file of this folder declares it.

    The methods check what the reader finds; their errors name the corpus and its layout.
    """

    name: str
    """Name for `--data`, and of the corpus's folder in $S3PRL_SPEECHCLIP_DATA."""
    title: str
    """Name in tables and documents."""
    layout: str
    """Files that the corpus's folder holds, shown in errors and documents."""
    read: Callable[[Path, bool], Manifest]
    """Reader of the corpus's folder.

    Its second argument, `skip_broken`, leaves out, and counts, recordings whose own file or image
    is missing, or empty where that is checked. A `CorpusError` names what else is wrong.
    """
    fetched: bool = False
    """True for a mini set, which is made at its first use and needs no folder of the user's."""
    published: tuple[Mapping[str, int], ...] = ()
    """Images by split of each published division into splits; empty: unknown."""

    @property
    def expected(self) -> str:
        """The remedy for a corpus in another layout."""
        return f"expected in its folder (--data-root DIR): {self.layout}"

    def public_name(self, manifest: Manifest) -> str:
        """Return the name that results give to what was read.

        A corpus has its own name only with the published number of images in every split, less at
        most `LEFT_OUT` that cannot be read; else other recordings lie in its layout.
        """
        found = Counter({u.image: u.split for u in manifest.utterances}.values())
        for sizes in self.published:
            if found.keys() == sizes.keys() and all(
                (1 - LEFT_OUT) * size <= found[split] <= size for split, size in sizes.items()
            ):
                return manifest.corpus
        return f"own ({self.title} layout)" if self.published else manifest.corpus

    def error(self, message: str) -> CorpusError:
        """Return an error that names the corpus."""
        return CorpusError(f"{self.name}: {message}")

    def malformed(self, path: Path, form: str, line: str) -> CorpusError:
        """Return an error for a line of a list that has another form."""
        return self.error(f"'{path}' must hold lines '{form}', found '{line[:80]}'")

    def require_folder(self, path: Path) -> None:
        """Raise an error where a folder that the layout needs is missing."""
        if not path.is_dir():
            raise self.error(f"no folder '{path}'; {self.expected}")

    def first_file(self, candidates: Sequence[Path]) -> Path:
        """Return the first file that exists; raise an error where none does."""
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            places = " or ".join(f"'{path}'" for path in candidates)
            raise self.error(f"no file {places}; {self.expected}")
        return found

    def read_metadata(self, path: Path) -> dict[str, Any]:
        """Read a JSON file that must hold a list `data` of objects."""
        content = read_json(path)
        rows = content.get("data") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.error(f"'{path}' must hold a list 'data' of objects; restore it")
        if not rows:
            raise self.error(f"'{path}' holds no entries; restore it")
        return content

    def member(self, path: Path, row: Any, *names: str) -> Any:
        """Return the first of the named members that an object of `path` has; null is absent."""
        found = [row[n] for n in names if row.get(n) is not None] if isinstance(row, dict) else ()
        if not found:
            raise self.error(
                f"an entry of '{path}' has no '{names[0]}' ({str(row)[:80]}); restore the file"
            )
        return found[0]

    def manifest(
        self,
        root: Path,
        utterances: Sequence[Utterance],
        skip_broken: bool,
        *,
        sizes: bool = True,
        train: bool = True,
        dev_splits: tuple[str, ...] = ("dev",),
        test_splits: tuple[str, ...] = ("test",),
        may_overlap: bool = False,
        notes: Sequence[str] = (),
    ) -> Manifest:
        """Check what a reader found, and put it into a manifest.

        A recording that is listed twice in a split counts once; a note says so.

        Args:
            root: folder that the paths are relative to.
            utterances: all recordings that the corpus lists.
            skip_broken: leave out, and count, recordings whose own file or image is missing or
                empty, instead of raising.
            sizes: find empty files too, at a system call a file: slow for 600,000 on a network.
            train: whether there must be a training split.
            dev_splits: names of the validation splits.
            test_splits: names of the test splits.
            may_overlap: whether an evaluation image in the training split is noted, not refused.
            notes: facts to show with any figure; logged here.

        Raises:
            CorpusError: a file is missing or empty and `skip_broken` is off, a split is empty, or
                splits overlap.
        """
        unique: dict[tuple[str, str, str], Utterance] = {}
        for u in utterances:
            unique.setdefault((u.split, u.language, u.audio), u)
        repeats = len(utterances) - len(unique)
        kept, left_out = self.keep_sound(root, tuple(unique.values()), skip_broken, sizes)
        splits = list(dict.fromkeys((*(("train",) if train else ()), *dev_splits, *test_splits)))
        present = {u.split for u in kept}
        for split in splits:
            if split not in present:
                raise self.error(
                    f"no usable recording in split '{split}'; check the corpus's files"
                )
        repeated = [f"{repeats} recordings are listed twice and count once"] if repeats else []
        facts = (*repeated, *notes, *self._overlaps(kept, splits, may_overlap))
        for fact in facts:
            log.warning("%s: %s", self.name, fact)
        return Manifest(
            corpus=self.name,
            root=root,
            utterances=kept,
            dev_splits=dev_splits,
            test_splits=test_splits,
            notes=(*left_out, *facts),
        )

    def keep_sound(
        self, root: Path, utterances: Sequence[Utterance], skip_broken: bool, sizes: bool = True
    ) -> tuple[tuple[Utterance, ...], tuple[str, ...]]:
        """Return the recordings whose own file and image are there, and a note on the others.

        See `manifest` for arguments and errors.
        """
        folders: dict[str, dict[str, int]] = {}
        broken: dict[str, dict[str, None]] = {}
        kept = []
        for u in utterances:
            is_sound = True
            for kind, file, header in (("images", u.image, 0), ("recordings", u.audio, WAV_HEADER)):
                path = os.path.join(root, file)
                folder, name = os.path.split(path)
                if folder not in folders:
                    folders[folder] = _files(folder, sizes)
                size = folders[folder].get(name)
                if size is None or (sizes and size <= header):
                    fault = "missing" if size is None else "empty"
                    broken.setdefault(f"{fault} {kind}", {})[path] = None
                    is_sound = False
            if is_sound:
                kept.append(u)
        if not broken:
            return tuple(kept), ()
        counts = ", ".join(
            f"{len(paths)} {kind} (first '{next(iter(paths))}')" for kind, paths in broken.items()
        )
        if not skip_broken:
            raise self.error(f"{counts}; restore them, or leave them out with --skip-broken")
        note = f"{len(utterances) - len(kept)} of {len(utterances)} recordings left out: {counts}"
        log.warning("%s: %s", self.name, note)
        for kind, paths in broken.items():
            for path in paths:
                log.warning("left out, %s: '%s'", kind.split()[0], path)
        return tuple(kept), (note,)

    def _overlaps(
        self, utterances: Iterable[Utterance], splits: Sequence[str], may_overlap: bool
    ) -> list[str]:
        """Compare each split's images with those of the splits before it."""
        # Published pair ids may count from 0 in each split; several sets that share images, each
        # with folders of its own, may not share their paths.
        images: dict[str, dict[str | int, str]] = {split: {} for split in splits}
        for u in utterances:
            if u.split in images:
                images[u.split][u.pair_id if may_overlap else u.image] = u.image
        notes = []
        for earlier, split in combinations(splits, 2):
            shared = [image for key, image in images[split].items() if key in images[earlier]]
            if shared and not may_overlap:
                raise self.error(
                    f"{len(shared)} images are in both '{earlier}' and '{split}' (first "
                    f"'{shared[0]}'), so figures would be wrong; correct the lists of the splits"
                )
            if shared and earlier == "train":
                number = len(images[split])
                notes.append(f"{len(shared)} of {number} images of '{split}' are in 'train' too")
        return notes


def default_root(name: str) -> Path | None:
    """Return a corpus's folder in $S3PRL_SPEECHCLIP_DATA, or None where that is not set."""
    parent = os.environ.get(ROOT_VARIABLE)
    return Path(parent).expanduser().absolute() / name if parent else None


def _files(folder: str, sizes: bool) -> dict[str, int]:
    """List a folder once, as corpora have 600,000 files: sizes in bytes by name, or zeros."""
    found: dict[str, int] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # a link to nothing is as good as missing
                found[entry.name] = entry.stat().st_size if sizes else 0
    return found


def fullest_folder(folders: Iterable[Path], relative: Sequence[str]) -> Path | None:
    """Return the folder that holds most of a sample of files, the first of equals.

    The files' paths are relative to the folder; None where no candidate holds any.
    """
    sample = relative[:: max(1, len(relative) // SAMPLE)]
    counts = {folder: sum((folder / path).is_file() for path in sample) for folder in folders}
    best = max(counts, key=lambda folder: counts[folder], default=None)
    return best if best is not None and counts[best] else None
