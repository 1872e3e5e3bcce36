"""The small encoders and models that the package ships."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from ..errors import EncoderError

SHIPPED = "mini"  # their name in configurations
ASSETS = Path(str(resources.files("s3prl_speechclip") / "assets" / "mini"))


def shipped_folder(encoder: Literal["hubert", "clip"]) -> Path:
    """Return the folder of a shipped encoder: `config.json` and `model.safetensors`.

    Raises:
        EncoderError: the installation lacks it.
    """
    folder = ASSETS / encoder
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise EncoderError(
                f"the mini {encoder} that the package ships is incomplete: '{folder / name}' is "
                "missing; reinstall the package, or train it with make mini"
            )
    return folder
