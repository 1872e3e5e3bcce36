"""Where a CLIP model's weights come from: open_clip, the package itself, or nowhere yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import EncoderError
from ..model.config import ClipConfig
from .clip import ClipEncoder, image_trunk
from .efficientnet import load_efficientnet_lite0
from .shipped import SHIPPED, shipped_folder
from .vocabulary import BPE_SIZE, check_vocabulary

EFFICIENTNET = "efficientnet-lite0"  # an image trunk with ImageNet weights, all else random
WEIGHTS = "model.safetensors"
TOKENS = "clip.token_embedding.weight"
TRUNK = "clip.visual.trunk."  # what the names of the trunk's weights begin with


def build_clip(config: ClipConfig, vocabulary: Tensor, *, weights: bool = True) -> ClipEncoder:
    """Make the CLIP that a configuration describes.

    Args:
        config: which model.
        vocabulary: original BPE ids of the codebook, (V,).
        weights: False starts from random weights even where the configuration names pretrained
            ones, because a checkpoint will fill them.

    Raises:
        EncoderError: the model cannot be had, or is not one that keywords can be read by.
    """
    if config.pretrained == SHIPPED:
        return load_shipped(
            shipped_folder("clip"), vocabulary, trainable=config.trainable, weights=weights
        )
    if config.pretrained and weights and config.pretrained != EFFICIENTNET:
        clip = _load_pretrained(config)
    else:
        clip = _from_architecture(config, len(vocabulary))
        if weights and config.pretrained == EFFICIENTNET:
            load_efficientnet_lite0(image_trunk(clip))
    if not isinstance(clip, open_clip.CLIP):
        raise EncoderError(
            f"keywords need a CLIP whose text tower is open_clip's own; '{config.name}' is a "
            f"{type(clip).__name__}"
        )
    return ClipEncoder(
        clip, vocabulary, trainable=config.trainable, image_resize=config.image_resize
    )


def load_shipped(
    folder: Path, vocabulary: Tensor | None = None, *, trainable: bool = False, weights: bool = True
) -> ClipEncoder:
    """Load a mini CLIP as the package ships it; its image trunk comes from a package of its own.

    Args:
        folder: holds `config.json` and `model.safetensors`.
        vocabulary: original BPE ids, (V,): its own, or a part of them in any order; None: its own.
        trainable: see `ClipConfig`.
        weights: False makes the architecture only.

    Raises:
        EncoderError: the folder is damaged, or lacks tokens of the vocabulary.
    """
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = ClipConfig(
            name=SHIPPED,
            pretrained=EFFICIENTNET,
            architecture=about["architecture"],
            quick_gelu=about["quick_gelu"],
            trainable=trainable,
            image_resize=about["image_resize"],
        )
        state = load_file(folder / WEIGHTS)
        known = check_vocabulary(state.pop("vocabulary"), str(folder))
        table = state[TOKENS]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise EncoderError(
            f"the mini CLIP in '{folder}' is damaged ({error}); install the package anew"
        ) from error
    vocabulary = known if vocabulary is None else vocabulary
    row_of = {token: row for row, token in enumerate(known.tolist())}
    missing = [token for token in vocabulary.tolist() if token not in row_of]
    if missing:
        raise EncoderError(
            f"the mini CLIP lacks {len(missing)} of the vocabulary's {len(vocabulary)} tokens; "
            "say model.clip.vocabulary=mini"
        )
    config = replace(config, architecture=_with_rows(config.architecture, len(vocabulary)))
    encoder = build_clip(config, vocabulary, weights=weights).eval()
    if weights:
        rows = torch.tensor([row_of[token] for token in vocabulary.tolist()])
        state = {name: value.float() for name, value in state.items()} | {
            TOKENS: table[rows].float()
        }
        own = {name for name in encoder.state_dict() if not name.startswith(TRUNK)}
        if own - {"vocabulary"} != state.keys():
            raise EncoderError(
                f"the mini CLIP in '{folder}' does not fit its configuration; install the package "
                "anew"
            )
        encoder.load_state_dict(state, strict=False)
    return encoder


def _with_rows(architecture: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {**architecture, "text_cfg": {**architecture["text_cfg"], "vocab_size": rows}}


def _load_pretrained(config: ClipConfig) -> nn.Module:
    try:
        return open_clip.create_model(
            config.name, pretrained=config.pretrained, force_quick_gelu=config.quick_gelu
        )
    except Exception as error:
        # open_clip and the Hub client raise many kinds for one cause: the weights are not there.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"CLIP '{config.name}' with weights '{config.pretrained}' cannot be had ({reason}): "
            "give the file of its weights (open_clip_model.safetensors or OpenAI's .pt) with "
            "--clip PATH, or go online once"
        ) from error


def _from_architecture(config: ClipConfig, vocabulary_size: int) -> nn.Module:
    values: dict[str, Any] = dict(config.architecture)
    if not values:
        known = open_clip.get_model_config(config.name)
        if known is None:
            raise EncoderError(f"open_clip knows no model '{config.name}'")
        values = dict(known)
        values["text_cfg"] = {"vocab_size": BPE_SIZE, **values["text_cfg"]}
    text = dict(values["text_cfg"])
    text.setdefault("vocab_size", vocabulary_size)
    vision = dict(values["vision_cfg"])
    mean, std = vision.pop("image_mean", None), vision.pop("image_std", None)
    clip = open_clip.CLIP(
        embed_dim=values["embed_dim"],
        vision_cfg=vision,
        text_cfg=text,
        quick_gelu=config.quick_gelu,
    )
    if mean is not None:
        clip.visual.image_mean, clip.visual.image_std = tuple(mean), tuple(std)
    return clip
