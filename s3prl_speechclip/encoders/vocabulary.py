"""CLIP's BPE tokens, and the reduced vocabularies that keywords are chosen from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ConfigError, EncoderError
from .shipped import SHIPPED, shipped_folder

if TYPE_CHECKING:  # `--help` of benchmarks reads this module, and needs no torch
    from open_clip.tokenizer import SimpleTokenizer
    from torch import Tensor

logger = logging.getLogger(__name__)

PADDING = 0
START_OF_TEXT = 49_406
END_OF_TEXT = 49_407
BPE_SIZE = 49_408
CONTEXT = 77  # tokens of CLIP's text encoder, start and end of text included
SPECIAL_TOKENS = (PADDING, START_OF_TEXT, END_OF_TEXT)
WORD_END = "</w>"  # marks the last token of a word

OFFICIAL = {
    "flickr8k": "flickr8k_bpe_usage_by_frequency.npy",
    "spokencoco": "spokencoco_bpe_usage_by_frequency.npy",
}


@cache
def tokenizer() -> SimpleTokenizer:
    """Return CLIP's BPE tokenizer, which open_clip ships."""
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import

    return SimpleTokenizer()


def encode(text: str) -> list[int]:
    """Return the BPE ids of a text without start and end, cut to CLIP's context."""
    return tokenizer().encode(text)[: CONTEXT - 2]


def decode(token_ids: Iterable[int]) -> str:
    """Return the text of BPE ids without special tokens, words separated by single spaces."""
    kept = [int(i) for i in token_ids if int(i) not in SPECIAL_TOKENS]
    return " ".join(tokenizer().decode(kept).split())


@cache
def spelled(token_id: int) -> tuple[int, ...]:
    """Return the BPE ids that spell a token letter by letter."""
    token = tokenizer().decoder[token_id]
    letters = list(token.removesuffix(WORD_END))
    if token.endswith(WORD_END):
        letters[-1] += WORD_END
    return tuple(tokenizer().encoder[letter] for letter in letters)


def official_vocabulary(name: str) -> Tensor:
    """Load the original ids of `flickr8k` (V = 8,112) or `spokencoco` (V = 19,787), (V,)."""
    folder = resources.files("s3prl_speechclip") / "assets" / "vocab"
    with resources.as_file(folder / OFFICIAL[name]) as path:
        return read_vocabulary(path)


def read_vocabulary(path: Path) -> Tensor:
    """Load a reduced vocabulary from a file in the official layout.

    Args:
        path: (V, 2) int64 .npy, original id and count.

    Returns:
        (V,) int64, original BPE id of each reduced id.

    Raises:
        ConfigError: the file is missing, in another layout, or lacks a special token.
    """
    import torch

    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the vocabulary '{path}': {error}") from error
    if table.ndim != 2 or table.shape[1] != 2:
        raise ConfigError(f"'{path}' must be (V, 2), BPE id and count; found {table.shape}")
    return check_vocabulary(torch.from_numpy(table[:, 0].astype(np.int64)), str(path))


def check_vocabulary(token_ids: Tensor, where: str) -> Tensor:
    """Check that ids are BPE ids, once each, with the special tokens among them.

    Raises:
        ConfigError: they are not.
    """
    present = set(token_ids.tolist())
    if len(present) != len(token_ids) or min(present) < 0 or max(present) >= BPE_SIZE:
        raise ConfigError(
            f"the vocabulary of {where} must hold BPE ids below {BPE_SIZE}, once each"
        )
    missing = [i for i in SPECIAL_TOKENS if i not in present]
    if missing:
        raise ConfigError(f"the vocabulary of {where} lacks the special tokens {missing}")
    return token_ids


def corpus_vocabulary(captions: Sequence[str]) -> Tensor:
    """Collect the tokens of captions in the released vocabularies' order.

    Captions are padded to CLIP's context, tokens are ordered by falling count (then by id), as in
    the official statistics.

    Args:
        captions: training captions.

    Returns:
        (V,) int64, original BPE ids.
    """
    import torch

    counts: Counter[int] = Counter({token: 0 for token in SPECIAL_TOKENS})
    for caption in captions:
        tokens = encode(caption)
        counts.update(tokens)
        counts.update((START_OF_TEXT, END_OF_TEXT))
        counts[PADDING] += CONTEXT - 2 - len(tokens)
    ordered = sorted(counts, key=lambda token: (-counts[token], token))
    return torch.tensor(ordered, dtype=torch.int64)


def find_vocabulary(name: str, captions: Sequence[str] = ()) -> Tensor:
    """Load a vocabulary by its name in the configuration.

    Args:
        name: `flickr8k`, `spokencoco`, `corpus`, `full`, `mini` (the shipped CLIP's), or the path
            of a .npy.
        captions: training captions, for `corpus`.

    Returns:
        (V,) int64, original BPE ids.

    Raises:
        ConfigError: `corpus` without captions, or no such file.
        EncoderError: `mini`, and the installation lacks it.
    """
    import torch

    if name in OFFICIAL:
        return official_vocabulary(name)
    if name == SHIPPED:
        return _shipped_vocabulary()
    if name == "full":
        return torch.arange(BPE_SIZE)
    if name == "corpus":
        if not captions:
            raise ConfigError(
                "model.clip.vocabulary=corpus needs a corpus with written captions; "
                "set flickr8k, spokencoco, full or the path of a .npy"
            )
        return corpus_vocabulary(captions)
    return read_vocabulary(Path(name))


def shipped_tokens(vocabulary: Tensor) -> Tensor:
    """Return the ids of a vocabulary that the shipped CLIP has, (V,), with a note of the others."""
    import torch

    known = torch.isin(vocabulary, _shipped_vocabulary())
    if not known.all():
        words = [decode([token]) for token in vocabulary[~known].tolist()]
        logger.info(
            "%d of %d tokens of the captions are not among the mini CLIP's, and no keywords: %s%s",
            len(words),
            len(vocabulary),
            ", ".join(words[:5]),
            ", ..." if len(words) > 5 else "",
        )
    return vocabulary[known]


def _shipped_vocabulary() -> Tensor:
    path = shipped_folder("clip") / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            vocabulary: Tensor = file.get_tensor("vocabulary")
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"'{path}' is damaged ({error}); reinstall the package") from error
    return check_vocabulary(vocabulary, str(path))
