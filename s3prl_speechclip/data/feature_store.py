"""Features of recordings on disk: one store for pretraining, downstream tasks and benchmarks.

A folder holds the features of one encoder with its settings, frames or means over time, in one
precision; in it, a recording is known by the digest of its samples. Any number of processes read
and append: each writes shards of its own, which others see once their index is renamed into place,
so that a killed process leaves nothing that is read. Folders that were not used for the longest
time make room for new ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..atomic import atomic_file
from ..errors import ConfigError, CorpusError
from ..structures import HOP, WINDOW, SpeechFeatures
from .cache import cache_home, check_owner, locked, writing

logger = logging.getLogger(__name__)

FORMAT = 3  # a part of the folders' names
LIMIT_VARIABLE = "S3PRL_SPEECHCLIP_CACHE_GB"
LIMIT = 50.0  # 10^9 bytes of all folders together, by default
SHARD = 2**29  # bytes after which a shard is published
ABANDONED = 86_400  # seconds after which a shard without an index is of a killed process
ABOUT_FILE, LOCK_FILE = "about.json", ".lock"
DATA, INDEX = ".bin", ".index"
CHECK = 16  # bytes of the digest at the end of an index
ENTRY = np.dtype([("key", "S32"), ("first", "<i8"), ("frames", "<i4"), ("check", "<u4")])
"""A recording: key, place of its first value, frames, CRC-32 of its values."""

Precision = Literal["float16", "float32"]


class Recording(NamedTuple):
    """A recording as it is read: 16 kHz mono."""

    key: str
    """Digest of its samples."""
    samples: int
    converted: bool = False
    """Whether the file has another rate or several channels."""


class Entry(NamedTuple):
    """A recording's features in a shard."""

    values: np.ndarray
    """Those of the whole shard."""
    first: int
    shape: tuple[int, int, int]
    check: int


def features_home() -> Path:
    """Return the folder of all features."""
    return cache_home() / "features"


def free_space() -> int:
    """Return the bytes that are free where features are kept."""
    home = features_home()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def recording_key(samples: np.ndarray) -> str:
    """Return the digest of a recording, (L,) float32; one shorter than a frame is padded to one."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    return hashlib.blake2b(np.ascontiguousarray(padded, "<f4").data, digest_size=16).hexdigest()


def frame_count(samples: int) -> int:
    """Return the number of frames that an encoder makes of a recording; at least one."""
    return max(0, samples - WINDOW) // HOP + 1


class FeatureFolder:
    """Features of recordings by key, mapped into memory.

    Args:
        about: what tells these features from others, such as encoder and weights; plain values.
        precision: type of the values.

    Raises:
        CorpusError: the folder is damaged, another user's, or cannot be written.
    """

    def __init__(self, about: Mapping[str, Any], precision: Precision) -> None:
        about = {"format": FORMAT, **about, "precision": precision}
        text = json.dumps(about, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.path = features_home() / name
        self._dtype = np.dtype(precision)
        self._entries: dict[str, Entry] = {}
        self._read: dict[str, Tensor] = {}
        self._shards: set[str] = set()
        with writing(self.path):
            self._lock = _hold(self.path)
            if not (self.path / ABOUT_FILE).exists():
                _publish(self.path / ABOUT_FILE, text.encode())
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def refresh(self) -> None:
        """Find what other processes published in the meantime."""
        for index in sorted(self.path.glob(f"*{INDEX}")):
            if index.name not in self._shards:
                self._shards.add(index.name)
                try:
                    self._open(index)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise self._damaged(f"{index.name}: {error}") from error

    def read(self, key: str) -> Tensor:
        """Return a recording's features, (states, T, D), in the folder's precision.

        Raises:
            CorpusError: they were changed since they were written.
        """
        found = self._read.get(key)
        if found is None:
            values, first, shape, check = self._entries[key]
            block = values[first : first + shape[0] * shape[1] * shape[2]]
            if zlib.crc32(block.data) != check:
                raise self._damaged(f"the values of recording {key} were changed")
            found = self._read[key] = torch.from_numpy(block.reshape(shape))
        return found

    def size(self, key: str) -> int:
        """Return the bytes of a recording's features."""
        return math.prod(self._entries[key].shape) * self._dtype.itemsize

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Append features; those of whole recordings are kept, however the block ends.

        Raises:
            CorpusError: the disk is full, or the folder cannot be written.
        """
        evict(spared=self.path)
        _remove_abandoned(self.path)
        with writing(self.path):
            writer = Writer(self.path, self._dtype)
            try:
                yield writer
            finally:
                writer.publish()
        self.refresh()

    def _open(self, index: Path) -> None:
        check_owner(index)
        content = index.read_bytes()
        head, _, rows = content[:-CHECK].partition(b"\n")
        if hashlib.blake2b(content[:-CHECK], digest_size=CHECK).digest() != content[-CHECK:]:
            raise ValueError("its digest is not the one that was written")
        layout = json.loads(head)
        states, width = int(layout["states"]), int(layout["width"])
        # Copied on writing, which nobody does: torch warns of an array that is read-only.
        values = np.memmap(index.with_suffix(DATA), self._dtype, mode="c")
        if len(values) != layout["values"]:
            raise ValueError(f"{len(values)} values, {layout['values']} were written")
        for key, first, frames, check in np.frombuffer(rows, ENTRY).tolist():
            shape = (states, frames, width)
            self._entries[key.decode()] = Entry(values, first, shape, check)

    def _damaged(self, reason: str) -> CorpusError:
        return CorpusError(
            f"the cached features '{self.path}' are damaged ({reason}); remove that folder and "
            "they are computed anew"
        )


class Writer:
    """Shards of one process."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._folder = folder
        self._dtype = dtype
        self._rows: list[tuple[bytes, int, int, int]] = []
        self._size = 0
        self._file: Any = None

    def add(self, key: str, features: Tensor) -> None:
        """Append a recording's features, (states, T, D) on the CPU."""
        content = np.ascontiguousarray(features.numpy(), self._dtype)
        if self._file is None:
            self._file = (self._folder / f"{uuid.uuid4().hex}{DATA}").open("wb")
            self._states, _, self._width = content.shape
        self._file.write(content.data)
        self._rows.append((key.encode(), self._size, content.shape[1], zlib.crc32(content.data)))
        self._size += content.size
        if self._size * self._dtype.itemsize >= SHARD:
            self.publish()

    def publish(self) -> None:
        """Let all processes see what was added."""
        if self._file is None:
            return
        path = Path(self._file.name)
        try:
            with self._file as file:
                # The last recording may not have been written whole.
                file.truncate(self._size * self._dtype.itemsize)
                os.fsync(file.fileno())
            if not self._rows:
                path.unlink()
                return
            head = {"states": self._states, "width": self._width, "values": self._size}
            content = json.dumps(head).encode() + b"\n" + np.array(self._rows, ENTRY).tobytes()
            check = hashlib.blake2b(content, digest_size=CHECK).digest()
            _publish(path.with_suffix(INDEX), content + check)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._rows, self._size, self._file = [], 0, None


class FeatureStore:
    """The hidden states of a split's recordings, in the order of the split.

    Args:
        folder: features by key.
        keys: keys of the recordings; None: it could not be read.
    """

    def __init__(self, folder: FeatureFolder, keys: Sequence[str | None]) -> None:
        self._folder = folder
        self._keys = keys
        self._loaded: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Return the number of the split's recordings, those that could not be read included."""
        return len(self._keys)

    def read(self, recording: int) -> Tensor | None:
        """Return a recording's hidden states, (layers, T, D); None: it was unreadable."""
        key = self._keys[recording]
        if key is None:
            return None
        return self._loaded[key] if self.on_device else self._folder.read(key)

    @property
    def on_device(self) -> bool:
        """Whether `to` moved the hidden states to a GPU."""
        return bool(self._loaded)

    def size(self) -> int:
        """Return the bytes of all hidden states."""
        return sum(self._folder.size(key) for key in {*self._keys} if key is not None)

    def to(self, device: torch.device) -> FeatureStore:
        """Return a store that reads from the memory of a GPU, where all of it is copied."""
        store = FeatureStore(self._folder, self._keys)
        store._loaded = {
            key: self._folder.read(key).to(device) for key in {*self._keys} if key is not None
        }
        return store


class KnownRecordings:
    """Digests of recordings by file, so that files that did not change are not read again.

    A file is the same while its path, size and modification time are.

    Args:
        reader: how samples are read from files.
    """

    def __init__(self, reader: str) -> None:
        name = hashlib.sha256(f"{FORMAT} {reader}".encode()).hexdigest()[:24]
        self._path = features_home() / f"recordings-{name}.json"
        self._new: dict[str, Recording] = {}
        self._known = self._load()

    def find(self, path: str | Path) -> Recording | None:
        """Return what is known of a file as it is now."""
        name = _identify(path)
        return self._new.get(name) or self._known.get(name)

    def add(self, path: str | Path, samples: np.ndarray, converted: bool = False) -> Recording:
        """Note the samples that were read from a file, (L,) float32."""
        found = Recording(recording_key(samples), len(samples), converted)
        self._new[_identify(path)] = found
        return found

    def take(self) -> dict[str, Recording]:
        """Return what was noted since the last call, for `merge` in another process."""
        noted, self._new = self._new, {}
        return noted

    def merge(self, noted: Mapping[str, Recording]) -> None:
        """Add what another process noted."""
        self._new.update(noted)

    def save(self) -> None:
        """Write what was noted, beside what other processes wrote."""
        if not self._new:
            return
        with writing(self._path.parent), locked(self._path.with_suffix(".lock")):
            self._known = {**self._load(), **self._new}
            _publish(self._path, json.dumps(self._known).encode())
        self._new = {}

    def refresh(self) -> None:
        """Find what other processes saved in the meantime."""
        self._known = self._load()

    def _load(self) -> dict[str, Recording]:
        if not self._path.exists():
            return {}
        check_owner(self._path)
        try:
            found = json.loads(self._path.read_bytes())
            return {name: Recording(*entry) for name, entry in found.items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}  # files are read once more


def collate_features(blocks: Sequence[Tensor]) -> SpeechFeatures:
    """Pad hidden states with zeros to the longest.

    Args:
        blocks: (layers, T, D) each; at least one.

    Returns:
        Hidden states in float32.
    """
    lengths = torch.tensor([block.shape[1] for block in blocks])
    if blocks[0].is_cuda:
        return SpeechFeatures(tuple(pad_at_once(blocks).unbind(0)), lengths)
    layers, _, width = blocks[0].shape
    padded = torch.empty(layers, len(blocks), int(lengths.max()), width)
    for row, block in enumerate(blocks):
        padded[:, row, : block.shape[1]] = block
        padded[:, row, block.shape[1] :] = 0.0
    return SpeechFeatures(tuple(padded.unbind(0)), lengths)


def pad_at_once(blocks: Sequence[Tensor]) -> Tensor:
    """Pad (layers, T, D) blocks to (layers, B, longest T, D) float32 in few calls.

    On a GPU calls are what takes time; on a CPU `collate_features` reads and writes less.
    """
    frames = pad_sequence([block.transpose(0, 1) for block in blocks], batch_first=True)
    return frames.float().permute(2, 0, 1, 3).contiguous()


class Stored(NamedTuple):
    """A folder of the store, for people."""

    path: Path
    about: Mapping[str, Any]
    size: int
    """Bytes."""
    used: float
    """When it was last opened, seconds since 1970."""


def stored() -> list[Stored]:
    """List the folders of features, the one that was not used for the longest time first."""
    found = []
    for path in features_home().glob("*/"):
        with suppress(OSError, ValueError, RecursionError):
            size = sum(file.stat().st_size for file in path.iterdir())
            about = json.loads((path / ABOUT_FILE).read_bytes())
            found.append(Stored(path, about, size, (path / LOCK_FILE).stat().st_mtime))
    return sorted(found, key=lambda folder: folder.used)


def evict(spared: Path | None = None) -> None:
    """Remove folders until all together are below the limit, but none that a process uses.

    Args:
        spared: a folder to keep.

    Raises:
        ConfigError: the environment's limit is no number.
    """
    text = os.environ.get(LIMIT_VARIABLE, str(LIMIT))
    try:
        limit = float(text) * 1e9
    except ValueError:
        raise ConfigError(f"{LIMIT_VARIABLE} is a number of 10^9 bytes, found '{text}'") from None
    folders = stored()
    total = sum(folder.size for folder in folders)
    for folder in folders:
        if total <= limit:
            break
        if folder.path != spared and remove(folder.path):
            logger.info("removed features that were not used for the longest: %s", folder.path)
            total -= folder.size


def remove(path: Path) -> bool:
    """Remove a folder of features, unless a process uses it; returns whether it is gone."""
    with (path / LOCK_FILE).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(path)
    return True


def _hold(folder: Path) -> Any:
    """Make a folder, and keep it from being removed while the returned file is open."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        check_owner(folder)
        lock = (folder / LOCK_FILE).open("ab")
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):  # removed between the two
            if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK_FILE).stat()):
                os.utime(folder / LOCK_FILE)
                return lock
        lock.close()


def _publish(path: Path, content: bytes) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def _remove_abandoned(folder: Path) -> None:
    for path in [*folder.glob(f"*{DATA}"), *folder.glob("*.partial")]:
        old = time.time() - path.stat().st_mtime > ABANDONED
        if old and not path.with_suffix(INDEX).exists():
            path.unlink(missing_ok=True)


def _identify(path: str | Path) -> str:
    try:
        status = os.stat(path)
        text = f"{os.path.abspath(path)}\n{status.st_size}\n{status.st_mtime_ns}"
    except OSError:  # named when it is read
        text = f"{os.path.abspath(path)}\nmissing"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
