"""Hidden states of a frozen speech encoder on disk, read in the place of recordings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import CorpusError
from ..hashing import file_hash
from ..structures import HOP, SpeechFeatures
from .audio import FRAME

FORMAT = 2  # a part of the cache's key
STATES_FILE = "states.bin"
INDEX_FILE = "index.npy"
ABOUT_FILE = "about.json"


def frame_count(samples: int) -> int:
    """Return the number of frames that an encoder makes of a recording; at least one."""
    return max(0, samples - FRAME) // HOP + 1


def write_features(folder: Path, recordings: int, states: Iterable[tuple[int, Tensor]]) -> None:
    """Write the hidden states of a split's recordings, in the order in which they come.

    Args:
        folder: an empty folder.
        recordings: number of recordings in the split.
        states: pairs of a recording's place in the split and its hidden states, (layers, T, D)
            float16. A recording without a pair could not be read.
    """
    index = np.zeros((recordings, 2), np.int64)
    first, layers, width = 0, 0, 0
    digest = hashlib.sha256()
    with (folder / STATES_FILE).open("wb") as file:
        for recording, block in states:
            layers, frames, width = block.shape
            content = block.contiguous().numpy().data
            file.write(content)
            digest.update(content)
            index[recording] = first, frames
            first += frames
    np.save(folder / INDEX_FILE, index)
    about = {
        "format": FORMAT,
        "layers": layers,
        "width": width,
        "states": digest.hexdigest(),
        "index": file_hash(folder / INDEX_FILE),
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about), encoding="utf-8")


class FeatureStore:
    """The hidden states of a split's recordings, mapped into memory.

    Args:
        folder: folder that `write_features` filled.

    Raises:
        CorpusError: it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
            self._layers, self._width = int(about["layers"]), int(about["width"])
            self._index = np.load(folder / INDEX_FILE, allow_pickle=False)
            # Copied on writing, which nobody does: torch warns of an array that is read-only.
            self._states = np.memmap(folder / STATES_FILE, np.float16, mode="c")
            frames, rest = divmod(len(self._states), self._layers * self._width)
            if about["format"] != FORMAT or rest or frames != self._index[:, 1].sum():
                raise ValueError("its parts do not fit each other")
            for key, name in (("index", INDEX_FILE), ("states", STATES_FILE)):
                if file_hash(folder / name) != about[key]:
                    raise ValueError(f"the SHA-256 of {name} is not the one that was written")
        except (OSError, EOFError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise CorpusError(
                f"the cached features '{folder}' are damaged ({error}); remove that folder and "
                "they are computed anew"
            ) from error

    def __len__(self) -> int:
        """Return the number of the split's recordings, those that could not be read included."""
        return len(self._index)

    def read(self, recording: int) -> Tensor | None:
        """Return a recording's hidden states, (layers, T, D) float16; None: it was unreadable."""
        first, frames = self._index[recording].tolist()
        if not frames:
            return None
        size = self._layers * self._width
        block = self._states[first * size : (first + frames) * size]
        return torch.from_numpy(block.reshape(self._layers, frames, self._width))


def collate_features(blocks: Sequence[Tensor]) -> SpeechFeatures:
    """Pad hidden states with zeros to the longest.

    Args:
        blocks: (layers, T, D) float16 each; at least one.

    Returns:
        Hidden states in float32.
    """
    layers, _, width = blocks[0].shape
    lengths = torch.tensor([block.shape[1] for block in blocks])
    padded = torch.empty(layers, len(blocks), int(lengths.max()), width)
    for row, block in enumerate(blocks):
        padded[:, row, : block.shape[1]] = block
        padded[:, row, block.shape[1] :] = 0.0
    return SpeechFeatures(tuple(padded.unbind(0)), lengths)
