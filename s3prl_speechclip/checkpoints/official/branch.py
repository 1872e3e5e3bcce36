"""The trained parts: layer mixture, branch and objective, from the official names to ours."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...model.config import Variant, find_variant
from .ledger import Ledger
from .reading import Settings

PARALLEL = "parallel_branch."
CASCADED = "cascaded_branch."

# Names of the branches in the official code over the years, without a leading KW_ and with `plus`
# for `dynamic`.
CASCADED_TYPES = {
    "CascadedBranch": "speechclip_cascaded",
    "CascadedBranch_plus": "speechclip_plus",
    "CascadedBranchPlus": "speechclip_plus",
    "CascadedBranch_Integrated": "speechclip_hybrid",
    "HybridBranch": "speechclip_hybrid",
    "HybridBranch_plus": "speechclip_hybrid_plus",
    "HybridBranchPlus": "speechclip_hybrid_plus",
    "Hybrid_plus": "speechclip_hybrid_plus",
}


def official_variant(settings: Settings) -> Variant:
    """Determine which of the five architectures a file holds; raises CheckpointError."""
    parallel = settings.get("model_settings.parallel_objective_weight") > 0
    if settings.get("model_settings.cascaded_objective_weight") <= 0:
        if parallel:
            return find_variant("speechclip_parallel")
        raise CheckpointError(f"'{settings.where}': neither of its objectives has a weight")
    kind = str(settings.get("model_settings.cascaded_branch.type"))
    alias = kind.removeprefix("KW_").replace("dynamic", "plus")
    if alias not in CASCADED_TYPES:
        raise CheckpointError(
            f"'{settings.where}': its branch is of type '{kind}'; known are "
            f"{', '.join(CASCADED_TYPES)}"
        )
    variant = find_variant(CASCADED_TYPES[alias])
    if parallel != variant.parallel:
        raise CheckpointError(
            f"'{settings.where}': its branch of type '{kind}' does not go with a parallel "
            f"objective of weight {settings.get('model_settings.parallel_objective_weight')}"
        )
    return variant


@dataclass(frozen=True)
class BranchShape:
    """Shape of a branch as read from its weights."""

    attention: str
    """`encoder` or `norm`, see `AttentionConfig.kind`."""
    shared_cls: bool = False
    """Whether the hybrid's CLS tokens are one parameter, as in the older code."""
    keywords: int = 8
    projection: tuple[int, ...] = ()
    norm: str = "none"
    conv_width: int = 3
    conv_layers: int = 1


def convert_branch(ledger: Ledger, variant: Variant) -> BranchShape:
    """Convert the layer mixture, the branch and the loss; raises CheckpointError."""
    ledger.map("audio_encoder.weightedsum_layer.weights", "layer_mix.weights")
    for name in ("eye_mat", "neg_eye_mat", "eye_mat_fl"):
        ledger.drop(f"criterion.{name}", "a constant of the loss")
    if "criterion.temperature" in ledger:
        ledger.map("criterion.temperature", "contrast.log_scale")
    prefix = PARALLEL if variant.keywords is None else CASCADED
    attention = _convert_attention(ledger, prefix)
    if variant.keywords is None:
        ledger.map(f"{PARALLEL}cls", "branch.cls")
        ledger.map_layer(f"{PARALLEL}linear_proj", "branch.projection")
        return BranchShape(attention)
    shared_cls = f"{CASCADED}cls" in ledger
    if variant.parallel:
        ledger.map_layer(f"{CASCADED}parallel_proj", "branch.projection")
    keywords = _convert_cls(ledger, variant)
    projection = _convert_projection(ledger)
    norm = _convert_norm(ledger, keywords)
    if f"{CASCADED}vector_quantizer.curr_temp" in ledger:
        ledger.map(f"{CASCADED}vector_quantizer.curr_temp", "branch.head.quantizer.temperature")
    width, layers = _convert_cif(ledger) if variant.keywords == "cif" else (3, 1)
    return BranchShape(attention, shared_cls, keywords, projection, norm, width, layers)


def _convert_attention(ledger: Ledger, prefix: str) -> str:
    """Convert the attention; returns its kind, see `AttentionConfig`."""
    single = f"{prefix}self_att.multihead_attn_layer."
    if f"{single}in_proj_weight" in ledger:
        for leaf in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"):
            ledger.map(single + leaf, "branch.attention.attention." + leaf)
        ledger.map_layer(f"{prefix}self_att.attentionBlock_Norm", "branch.attention.norm")
        return "norm"
    layers = f"{prefix}self_att.model."
    ledger.map_layer(f"{layers}norm", "branch.attention.norm")
    for name in ledger.names(f"{layers}layers."):
        ledger.map(name, "branch.attention." + name.removeprefix(layers))
    return "encoder"


def _convert_cls(ledger: Ledger, variant: Variant) -> int:
    """Convert the CLS tokens; returns the number of keywords."""
    if variant.keywords == "cif":
        if variant.parallel:
            ledger.map(f"{CASCADED}cls", "branch.cls")
        return 8
    if f"{CASCADED}cls" in ledger:
        ledger.map(f"{CASCADED}cls", "branch.cls")
    else:
        parts = (f"{CASCADED}parallel_cls", f"{CASCADED}cascaded_cls")
        cls = torch.cat([ledger.look(part) for part in parts], 1)
        for part in parts:
            ledger.map(part, "branch.cls", cls)
    return ledger.native["branch.cls"].shape[1] - (1 if variant.parallel else 0)


def _convert_projection(ledger: Ledger) -> tuple[int, ...]:
    """Convert the keyword projection; returns the widths of its hidden layers."""
    old, new = f"{CASCADED}linear_proj.", "branch.head.projection."
    if f"{old}weight" in ledger:
        ledger.map_layer(old[:-1], f"{new}0")
        return ()
    indices = sorted(
        int(match[1])
        for name in ledger.names(f"{old}sequential.")
        if (match := re.fullmatch(r".*\.sequential\.(\d+)\.weight", name))
    )
    if not indices:
        ledger.look(f"{old}weight")
    for index in indices:
        ledger.map_layer(f"{old}sequential.{index}", f"{new}{index}")
    return tuple(ledger.native[f"{new}{index}.weight"].shape[0] for index in indices[:-1])


def _convert_norm(ledger: Ledger, keywords: int) -> str:
    """Convert the keyword batch norm; returns its kind, see `KeywordConfig.norm`."""
    width = ledger.look("clip.model.token_embedding.weight").shape[1]
    single, several = f"{CASCADED}bn_layer.bn_layer.", f"{CASCADED}bn_layer.bn_layers."
    native = "branch.head.norm."
    counter = "the running statistics have a fixed momentum"
    leaves = ("weight", "bias", "running_mean", "running_var")
    if f"{several}0.weight" in ledger:
        for leaf in leaves:
            names = [f"{several}{k}.{leaf}" for k in range(keywords)]
            values = torch.stack([ledger.look(name) for name in names])
            for name in names:
                ledger.map(name, native + leaf, values)
        for k in range(keywords):
            ledger.drop(f"{several}{k}.num_batches_tracked", counter)
        return "per_keyword"
    if f"{single}weight" not in ledger:
        return "none"
    ledger.drop(f"{single}num_batches_tracked", counter)
    per_keyword = ledger.look(f"{single}weight").shape[0] != width
    for leaf in leaves:
        value = ledger.look(single + leaf)
        ledger.map(single + leaf, native + leaf, _by_keyword(value, width) if per_keyword else None)
    return "per_keyword" if per_keyword else "shared"


def _by_keyword(flat: Tensor, width: int) -> Tensor:
    """Undo the official flattening of (D, K) into one axis; returns (K, D)."""
    return flat.reshape(width, -1).T.contiguous()


def _convert_cif(ledger: Ledger) -> tuple[int, int]:
    """Convert the CIF weight network; returns the width and number of its convolutions."""
    old, new = f"{CASCADED}downsampling.", "branch.segmenter.weights."
    # Each convolution is followed by dropout and ReLU in one sequence.
    layers = 0
    while f"{old}conv.{3 * layers}.weight" in ledger:
        ledger.map_layer(f"{old}conv.{3 * layers}", f"{new}convolutions.{layers}")
        layers += 1
    ledger.map_layer(f"{old}weight_proj.1", f"{new}unit")
    return ledger.look(f"{old}conv.0.weight").shape[2], layers
