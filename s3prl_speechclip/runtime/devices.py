"""Devices, precision and Lightning Fabric, by the names that users give."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from ..config import parse_device
from ..errors import ConfigError

if TYPE_CHECKING:  # a device is found without the extra `train`
    from lightning.fabric import Fabric

WAIT = timedelta(hours=12)  # of the others for the process that fills caches or evaluates alone
PRECISIONS = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
# Options of glibc's allocator, with the values of its malloc.h: one arena, since backward has a
# thread of its own; no mapping of its own for a large block; freed memory is kept.
KEEP_FREED_MEMORY = {-8: 1, -4: 0, -1: 2**31 - 1}


def find_device(name: str) -> torch.device:
    """Return the device of `--device`: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: the device is unknown or not present.
    """
    kind, _, index = parse_device(name).partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices; give --device "
            "cpu or another number"
        )
    return torch.device(f"{kind}:{index}" if index else kind)


def build_fabric(device: str, precision: str, *, find_unused_parameters: bool = True) -> Fabric:
    """Build Fabric for the processes that torchrun or Slurm started, not launched yet.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `bf16`, `fp16` or `fp32` of the forward pass; `auto`: bf16 where the device
            computes in it, else fp16 on a GPU and fp32 on a CPU.
        find_unused_parameters: DDP's option, needed where a step may leave parameters out.

    Raises:
        ConfigError: the device is unknown or not present, or cannot compute in that precision.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    found = find_device(device)
    plugin = PRECISIONS[_find_precision(precision, found.type)]
    processes = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")))
    if processes == 1:
        devices: int | list[int] = 1 if found.index is None else [found.index]
        return Fabric(accelerator=found.type, devices=devices, precision=plugin)
    return Fabric(
        accelerator=found.type,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy=DDPStrategy(find_unused_parameters=find_unused_parameters, timeout=WAIT),
        precision=plugin,
    )


def loss_scale_state(fabric: Fabric) -> dict[str, Any]:
    """Return the state of fp16's loss scale; empty in another precision."""
    scaler = getattr(fabric._precision, "scaler", None)
    return scaler.state_dict() if scaler is not None else {}


def restore_loss_scale(fabric: Fabric, state: Mapping[str, Any]) -> None:
    """Restore what `loss_scale_state` returned, where both runs compute in fp16."""
    scaler = getattr(fabric._precision, "scaler", None)
    if scaler is not None and state:
        scaler.load_state_dict(dict(state))


def keep_freed_memory() -> None:
    """Have glibc reuse what a step on the CPU frees; with another C library nothing changes.

    By default each large tensor is fresh memory, whose pages the system clears as they are touched.
    Kept memory takes 15 to 22 % off a step of the mini preset (median 2.5 s against 3.2 s for 256
    recordings as cached features, one thread).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in KEEP_FREED_MEMORY.items():
            libc.mallopt(option, value)


def return_freed_memory() -> None:
    """Return what `keep_freed_memory` kept to the system, so that fragments do not add up."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _find_precision(wanted: str, device_type: str) -> str:
    if wanted == "fp16" and device_type == "cpu":
        raise ConfigError("runner.precision=fp16 needs a GPU; set bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without instructions for bf16 a CPU is slower in it than in fp32.
    found = torch.cpu.get_capabilities() if platform.machine() in ("x86_64", "AMD64") else {}
    return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"
