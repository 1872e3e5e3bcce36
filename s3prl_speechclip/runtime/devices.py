"""Devices and precision by the names that users give."""

from __future__ import annotations

import torch

from ..errors import ConfigError

PRECISIONS = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


def find_device(name: str) -> torch.device:
    """Turn `--device` into a device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: a device that is unknown or not there.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise ConfigError(f"--device is auto, cpu, cuda or cuda:N; found '{name}'")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices; give --device "
            "cpu or another number"
        )
    return torch.device(f"{kind}:{index}" if index else kind)
