"""The five ways from frames to utterance embeddings and keywords."""

from __future__ import annotations

from torch import nn

from ...modules.attention import build_attention
from ..config import ModelConfig, find_variant
from .cascaded import CascadedBranch
from .cif_cascaded import CifCascadedBranch
from .hybrid import HybridBranch, HybridCifBranch
from .keyword_head import KeywordHead
from .parallel import ParallelBranch
from .segmenter import CifSegmenter


def build_branch(
    config: ModelConfig, *, width: int, token_width: int, joint_width: int
) -> nn.Module:
    """Make the branch of a configuration's variant.

    Args:
        config: of the whole model.
        width: D of the speech encoder.
        token_width: D of CLIP's token embeddings.
        joint_width: E.
    """
    variant = find_variant(config.variant)
    kind = config.attention.kind
    if kind == "auto":
        kind = "encoder" if variant.keywords is None else "norm"
    attention = build_attention(
        kind,
        width=width,
        heads=config.attention.heads,
        layers=config.attention.layers,
        feedforward=config.attention.feedforward,
        dropout=config.attention.dropout,
        norm_eps=config.attention.norm_eps,
        norm_first=config.attention.norm_first,
    )
    if variant.keywords is None:
        return ParallelBranch(attention, width=width, joint_width=joint_width)
    keywords = config.keywords
    head = KeywordHead(
        width=width,
        token_width=token_width,
        slots=keywords.number if variant.keywords == "cls" else None,
        projection=keywords.projection,
        projection_dropout=keywords.projection_dropout,
        norm=keywords.norm,
        norm_learnable=keywords.norm_learnable,
        count_padding=not config.batch_invariant,
        temperature=keywords.temperature,
        learn_temperature=keywords.learn_temperature,
        straight_through=keywords.straight_through,
        gumbel=keywords.gumbel,
        banned_rows=keywords.banned_rows,
    )
    if variant.keywords == "cls":
        if variant.parallel:
            return HybridBranch(
                attention, head, width=width, joint_width=joint_width, number=keywords.number
            )
        return CascadedBranch(attention, head, width=width, number=keywords.number)
    cif = config.cif
    segmenter = CifSegmenter(
        width=width,
        conv_width=cif.conv_width,
        conv_layers=cif.conv_layers,
        dropout=cif.dropout,
        threshold=cif.threshold,
        tail_threshold=cif.tail_threshold,
        max_fires=cif.max_fires,
        frames_per_keyword=cif.frames_per_keyword,
        read_padding=not config.batch_invariant,
    )
    if variant.parallel:
        return HybridCifBranch(attention, head, segmenter, width=width, joint_width=joint_width)
    return CifCascadedBranch(attention, head, segmenter)
