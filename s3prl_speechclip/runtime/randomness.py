"""Random numbers as functions of what they are for, so that a run resumes anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

ORDER, ITEM, STEP, EVALUATION = range(4)  # what a seed is derived for


def derived_seed(purpose: int, *numbers: int) -> int:
    """Give a seed of 32 bits that follows from numbers, not negative, and a purpose."""
    return int(np.random.SeedSequence([purpose, *numbers]).generate_state(1)[0])


def set_seed(seed: int, cuda: bool = True) -> None:
    """Seed Python, NumPy and torch; without `cuda`, torch's generator on the CPU only."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if cuda:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def own_randomness(seed: int, cuda: bool = True) -> Iterator[None]:
    """Seed all generators for a block and put them back as they were.

    Args:
        seed: for the block.
        cuda: the GPUs' generators too. A process that reads data must not touch them.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if cuda and torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        set_seed(seed, cuda)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
