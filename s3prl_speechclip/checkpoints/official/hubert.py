"""HuBERT from fairseq's names and form to transformers'."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch

from ...errors import CheckpointError
from .ledger import Ledger
from .reading import Settings

logger = logging.getLogger(__name__)

NATIVE = "speech_encoder.model."
KERNELS = [10, 3, 3, 3, 3, 2, 2]  # samples or frames that each convolution sees
STRIDES = [5, 2, 2, 2, 2, 2, 2]  # their product is the hop of 320 samples

# Attention heads by width: neither the weights nor the settings of a file tell them.
PUBLISHED_HEADS = {768: 12, 1024: 16, 1280: 16}
OTHER_HEADS = 4

RENAMES = (
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.(?:1\.)?", r"\1.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
"""Rules that rewrite names; a name that the model lacks is refused when it is loaded."""
ONLY_FOR_PRETRAINING = ("mask_emb", "label_embs_concat", "final_proj.weight", "final_proj.bias")


def convert_hubert(ledger: Ledger, settings: Settings) -> dict[str, Any]:
    """Convert HuBERT; returns its transformers configuration.

    The architecture is read from the weights. A layer-norm extractor means the form of HuBERT
    Large, which also has pre-norm layers and normalises waveforms; a group-norm extractor that of
    HuBERT Base.

    Raises:
        CheckpointError: it is not a known form of HuBERT.
    """
    kind = settings.get("audio_encoder.type")
    prefix = "audio_encoder.encoder."
    if kind == "s3prl_plus":
        prefix += "model."
    elif kind != "FairseqHubert":
        raise CheckpointError(
            f"'{settings.where}': its speech encoder is of type '{kind}'; FairseqHubert and "
            "s3prl_plus can be read"
        )
    architecture = _architecture(ledger, settings, prefix)
    if kind == "s3prl_plus" and architecture["do_stable_layer_norm"]:
        raise CheckpointError(
            f"'{settings.where}' takes HuBERT Large through s3prl, whose last hidden state has "
            "passed one more norm; FairseqHubert can be read"
        )
    for name in ONLY_FOR_PRETRAINING:
        ledger.drop(prefix + name, "only HuBERT's own pretraining uses it")
    for name in ledger.names(prefix):
        if name not in ledger.dropped:
            ledger.map(name, NATIVE + _native_name(name.removeprefix(prefix)))
    if f"{prefix}post_extract_proj.weight" not in ledger:
        # fairseq leaves the projection out where widths agree.
        width = architecture["hidden_size"]
        ledger.add(f"{NATIVE}feature_projection.projection.weight", torch.eye(width))
        ledger.add(f"{NATIVE}feature_projection.projection.bias", torch.zeros(width))
    return architecture


def _architecture(ledger: Ledger, settings: Settings, prefix: str) -> dict[str, Any]:
    extractor = prefix + "feature_extractor.conv_layers."
    convolutions = [ledger.look(f"{extractor}{i}.0.weight") for i in range(len(KERNELS))]
    kernels = [weight.shape[-1] for weight in convolutions]
    if kernels != KERNELS or f"{extractor}{len(KERNELS)}.0.weight" in ledger:
        raise CheckpointError(
            f"'{settings.where}': its feature extractor is not HuBERT's; convolutions of {KERNELS} "
            f"expected, {kernels} found"
        )
    first = prefix + "encoder.layers.0."
    width = ledger.look(first + "fc2.weight").shape[0]
    directions = prefix + "encoder.pos_conv.0.weight_v"
    if directions not in ledger:
        directions = prefix + "encoder.pos_conv.0.parametrizations.weight.original1"
    positions = ledger.look(directions)
    large = f"{extractor}0.2.1.weight" in ledger
    drop = settings.get("audio_encoder.layer_drop", 0.0)
    return {
        "model_type": "hubert",
        "hidden_size": width,
        "num_hidden_layers": ledger.count(prefix + "encoder.layers."),
        "num_attention_heads": _heads(width, settings),
        "intermediate_size": ledger.look(first + "fc1.weight").shape[0],
        "conv_dim": [weight.shape[0] for weight in convolutions],
        "conv_kernel": KERNELS,
        "conv_stride": STRIDES,
        "conv_bias": f"{extractor}0.0.bias" in ledger,
        "feat_extract_norm": "layer" if large else "group",
        "do_stable_layer_norm": large,
        "num_conv_pos_embeddings": positions.shape[2],
        "num_conv_pos_embedding_groups": width // positions.shape[1],
        "feat_proj_dropout": 0.0,
        "layerdrop": drop if isinstance(drop, float) else 0.0,
        # Without masked prediction there is no mask embedding.
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }


def _heads(width: int, settings: Settings) -> int:
    if width in PUBLISHED_HEADS:
        return PUBLISHED_HEADS[width]
    if width % OTHER_HEADS:
        raise CheckpointError(
            f"'{settings.where}': the number of attention heads of a HuBERT of width {width} is "
            f"unknown; widths {', '.join(map(str, PUBLISHED_HEADS))} and multiples of "
            f"{OTHER_HEADS} can be read"
        )
    logger.warning(
        "'%s': its HuBERT of width %d is none of the published ones; assuming %d heads",
        settings.where,
        width,
        OTHER_HEADS,
    )
    return OTHER_HEADS


def _native_name(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
