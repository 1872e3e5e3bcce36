"""Random numbers as functions of their purpose, so that a run resumes anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

ORDER, ITEM, STEP, EVALUATION = range(4)  # purposes that seeds are derived for


def derived_seed(purpose: int, *numbers: int) -> int:
    """Return a seed of 32 bits that follows from a purpose and numbers, not negative."""
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
    """Seed all generators for a block, and restore them after it.

    Args:
        seed: seed of the block.
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


def drawn_numbers() -> tuple[object, ...]:
    """Return the state of Python's, NumPy's and torch's generators on the CPU, to compare."""
    _, words, place, *_ = np.random.get_state()
    torchs = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), np.asarray(words).tobytes(), place, torchs


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's generators in this process, by `cpu` and `cuda`."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
