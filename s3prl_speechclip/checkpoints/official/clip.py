"""CLIP from OpenAI's form to open_clip's, and the vocabulary from the token tables."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from ...encoders.vocabulary import BPE_SIZE, OFFICIAL, SPECIAL_TOKENS, official_vocabulary
from ...errors import CheckpointError
from .ledger import Ledger

OPENAI = "clip.model."
NATIVE = "clip.clip."
TABLE = OPENAI + "token_embedding.weight"
FULL_TABLE = "clip.original_text_emb_weight"
BLOCKS = "transformer.resblocks."
HEAD_WIDTH = 64  # of every published ViT and text tower of CLIP
PUBLISHED_TEXT_WIDTHS = (512, 640, 768, 1024)
OTHER_TEXT_HEADS = 4  # of other widths; like HuBERT's, heads cannot be read from the weights


def convert_clip(ledger: Ledger, where: str) -> tuple[dict[str, Any], str]:
    """Convert CLIP and the vocabulary.

    Returns:
        CLIP's open_clip configuration, and the vocabulary's name, see `recover_vocabulary`.

    Raises:
        CheckpointError: its image tower is no ViT, or the vocabulary cannot be recovered.
    """
    if f"{OPENAI}visual.proj" not in ledger:
        raise CheckpointError(f"'{where}': the image tower of its CLIP is no ViT")
    reduced = ledger.look(TABLE)
    full = ledger.look(FULL_TABLE) if FULL_TABLE in ledger else None
    name, vocabulary = recover_vocabulary(reduced, full, where)
    ledger.add("clip.vocabulary", vocabulary)
    if full is None:
        ledger.map(TABLE, f"{NATIVE}token_embedding.weight")
    else:
        ledger.map(FULL_TABLE, f"{NATIVE}token_embedding.weight")
        ledger.drop(TABLE, "rows of the full token table, which is kept with their ids")
    for weight in ledger.names(OPENAI):
        if weight != TABLE:  # open_clip kept OpenAI's names for ViT and text encoder
            ledger.map(weight, NATIVE + weight.removeprefix(OPENAI))
    ledger.drop_copies("cascaded_branch.", "clip.")
    return _architecture(ledger, len(reduced if full is None else full)), name


def recover_vocabulary(reduced: Tensor, full: Tensor | None, where: str) -> tuple[str, Tensor]:
    """Determine the BPE ids of the rows of a reduced token table.

    Args:
        reduced: (V, D).
        full: CLIP's whole table, (49408, D), or None if the file lacks it.
        where: path of the file, for messages.

    Returns:
        Name of the vocabulary (`flickr8k`, `spokencoco`, `full`, or `corpus` for any other), and
        the original ids, (V,) int64.

    Raises:
        CheckpointError: they cannot be recovered.
    """
    if len(reduced) == BPE_SIZE:
        return "full", torch.arange(BPE_SIZE)
    for name in OFFICIAL:
        ids = official_vocabulary(name)
        if len(ids) == len(reduced) and (full is None or torch.equal(full[ids], reduced)):
            return name, ids
    if full is None:
        raise CheckpointError(
            f"'{where}': its vocabulary of {len(reduced)} tokens is none of the released ones, and "
            f"without '{FULL_TABLE}' their ids cannot be recovered"
        )
    return "corpus", _match_rows(reduced, full, where)


def _match_rows(reduced: Tensor, full: Tensor, where: str) -> Tensor:
    """Match rows exactly; of equal rows the special tokens come first, then the lowest id."""
    candidates: dict[bytes, list[int]] = defaultdict(list)
    order = [*SPECIAL_TOKENS, *(i for i in range(len(full)) if i not in SPECIAL_TOKENS)]
    rows = full.contiguous().view(torch.uint8).numpy()
    for token_id in reversed(order):
        candidates[rows[token_id].tobytes()].append(token_id)
    ids: list[int] = []
    for row in reduced.contiguous().view(torch.uint8).numpy():
        found = candidates[row.tobytes()]
        if not found:
            raise CheckpointError(
                f"'{where}': row {len(ids)} of its reduced token table is no row of the full one, "
                "so that its BPE id cannot be recovered"
            )
        ids.append(found.pop())
    return torch.tensor(ids)


def _architecture(ledger: Ledger, table_size: int) -> dict[str, Any]:
    text = ledger.look(f"{OPENAI}ln_final.weight").shape[0]
    vision, _, _, patch = ledger.look(f"{OPENAI}visual.conv1.weight").shape
    patches = ledger.look(f"{OPENAI}visual.positional_embedding").shape[0] - 1
    return {
        "embed_dim": ledger.look(f"{OPENAI}text_projection").shape[1],
        "vision_cfg": {
            "image_size": math.isqrt(patches) * patch,
            "patch_size": patch,
            "width": vision,
            "head_width": HEAD_WIDTH if vision % HEAD_WIDTH == 0 else vision,
            "layers": ledger.count(f"{OPENAI}visual.{BLOCKS}"),
            "mlp_ratio": _mlp_ratio(ledger, f"{OPENAI}visual.", vision),
        },
        "text_cfg": {
            "context_length": ledger.look(f"{OPENAI}positional_embedding").shape[0],
            "vocab_size": table_size,
            "width": text,
            "heads": _text_heads(text),
            "layers": ledger.count(OPENAI + BLOCKS),
            "mlp_ratio": _mlp_ratio(ledger, OPENAI, text),
        },
    }


def _text_heads(width: int) -> int:
    if width in PUBLISHED_TEXT_WIDTHS:
        return width // HEAD_WIDTH
    return OTHER_TEXT_HEADS if width % OTHER_TEXT_HEADS == 0 else 1


def _mlp_ratio(ledger: Ledger, tower: str, width: int) -> float:
    inner = ledger.look(f"{tower}{BLOCKS}0.mlp.c_fc.weight").shape[0]
    return inner / width
