"""What the readers of the published corpora share: finding files, and saying what is wrong."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import CorpusError
from ..audio import WAV_HEADER
from ..manifest import Utterance

log = logging.getLogger(__name__)

State = Literal["present", "missing", "empty"]


class Folders:
    """What lies in folders; each folder is listed once, since corpora have 600,000 files."""

    def __init__(self, sizes: bool) -> None:
        """Prepare to look.

        Args:
            sizes: also find empty files. It costs a system call a file, which is cheap for 40,000
                files and slow for 600,000 on a network file system.
        """
        self._sizes = sizes
        self._listed: dict[str, dict[str, int]] = {}

    def state(self, path: str, header: int = 0) -> State:
        """Tell whether a file is there and larger than its bare header, in bytes."""
        folder, name = os.path.split(path)
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        size = self._listed[folder].get(name)
        if size is None:
            return "missing"
        return "empty" if self._sizes and size <= header else "present"

    def _list(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            entries = os.scandir(folder)
        except OSError:
            return found
        with entries:
            for entry in entries:
                try:
                    found[entry.name] = entry.stat().st_size if self._sizes else 0
                except OSError:  # a link to nothing is as good as missing
                    continue
        return found


def require_folder(corpus: str, path: Path, layout: str) -> None:
    """Check a folder that the layout needs.

    Raises:
        CorpusError: it is missing.
    """
    if not path.is_dir():
        raise CorpusError(f"{corpus}: no folder '{path}'; {expected(layout)}")


def first_file(corpus: str, candidates: Sequence[Path], layout: str) -> Path:
    """Give the first file that exists.

    Raises:
        CorpusError: none does.
    """
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        places = " or ".join(f"'{path}'" for path in candidates)
        raise CorpusError(f"{corpus}: no file {places}; {expected(layout)}")
    return found


def expected(layout: str) -> str:
    """Say what the reader wants to find, and by which option."""
    return f"expected under --data-root DIR: {layout}"


def read_lines(corpus: str, path: Path) -> list[str]:
    """Read the lines of a list that are not blank.

    Raises:
        CorpusError: the file cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{corpus}: cannot read '{path}' ({error}); restore it") from error
    return [line.strip() for line in lines if line.strip()]


def read_json(corpus: str, path: Path) -> dict[str, Any]:
    """Read a metadata file that holds a list `data` of objects.

    Raises:
        CorpusError: the file is not JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{corpus}: cannot read '{path}' ({error}); restore it") from error
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CorpusError(f"{corpus}: '{path}' must hold a list 'data' of objects; restore it")
    if not rows:
        raise CorpusError(f"{corpus}: '{path}' holds no entries; restore it")
    return content


def member(corpus: str, path: Path, row: Any, *names: str) -> Any:
    """Give the first of the named members that an object of a metadata file has.

    Raises:
        CorpusError: it has none of them.
    """
    if isinstance(row, dict):
        for name in names:
            if name in row:
                return row[name]
    raise CorpusError(
        f"{corpus}: an entry of '{path}' has no '{names[0]}' ({str(row)[:80]}); restore the file"
    )


def keep_sound(
    corpus: str, root: Path, utterances: Sequence[Utterance], skip_broken: bool, sizes: bool
) -> tuple[tuple[Utterance, ...], tuple[str, ...]]:
    """Leave out the recordings whose own file or image is missing or empty.

    Args:
        corpus: its name, for messages.
        root: what the paths are relative to.
        utterances: all that the corpus lists.
        skip_broken: leave out, and count, instead of raising.
        sizes: also find empty files, see `Folders`.

    Returns:
        The recordings that stay, and notes on those that do not.

    Raises:
        CorpusError: a file is missing or empty, and `skip_broken` is off.
    """
    folders = Folders(sizes)
    base = str(root)
    images: dict[str, State] = {}
    broken: dict[str, list[str]] = {}
    kept = []
    for utterance in utterances:
        recording = folders.state(os.path.join(base, utterance.audio), WAV_HEADER)
        image = images.get(utterance.image)
        if image is None:
            image = folders.state(os.path.join(base, utterance.image))
            images[utterance.image] = image
            if image != "present":
                broken.setdefault(f"{image} images", []).append(utterance.image)
        if recording != "present":
            broken.setdefault(f"{recording} recordings", []).append(utterance.audio)
        if recording == image == "present":
            kept.append(utterance)
    if not broken:
        return tuple(kept), ()
    counts = ", ".join(
        f"{len(paths)} {kind} (first '{os.path.join(base, paths[0])}')"
        for kind, paths in broken.items()
    )
    if not skip_broken:
        raise CorpusError(f"{corpus}: {counts}; restore them, or leave them out with --skip-broken")
    note = f"{len(utterances) - len(kept)} of {len(utterances)} recordings left out: {counts}"
    log.warning("%s: %s", corpus, note)
    return tuple(kept), (note,)


def require_splits(corpus: str, utterances: Iterable[Utterance], splits: Iterable[str]) -> None:
    """Check that no split is empty.

    Raises:
        CorpusError: one is.
    """
    present = {utterance.split for utterance in utterances}
    for split in splits:
        if split not in present:
            raise CorpusError(
                f"{corpus}: no usable recording in split '{split}'; check the corpus's files"
            )
