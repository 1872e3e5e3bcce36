"""The five SUPERB tasks on their mini sets, for two models and two baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ...downstream.request import RESULTS, Request
from ...downstream.run import run
from ...downstream.task import find_task
from ...downstream.upstreams import load_upstream
from ...encoders.shipped import ASSETS
from ...results import read_result, write_result
from ...runtime.devices import find_device
from .. import MiniSet, mini_set

logger = logging.getLogger(__name__)

SHIPPED: Mapping[str, str] = {
    "speechclip_plus": str(ASSETS / "speechclip_plus"),
    "speechclip_hybrid": str(ASSETS / "speechclip_hybrid"),
    "speechclip_encoder": str(ASSETS / "speechclip_hybrid"),
}
"""Checkpoints, so that a model that was trained here in the meantime is not taken instead."""


def run_superb(
    systems: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    *,
    device: str,
    **options: Any,
) -> Path | None:
    """Run what has no result yet, or has one of other weights or of an earlier mini set.

    Args:
        systems: names of upstreams.
        tasks: names of tasks.
        seeds: seeds of weights, batches and dropout; a task that trains nothing is run with the
            first.
        folder: folder of the results.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        **options: other fields of a downstream request, such as `override`.

    Returns:
        The folder of the experiment that a signal stopped, or None where all are done.
    """
    for system in systems:
        checkpoint = SHIPPED.get(system)
        digest = load_upstream(system, checkpoint, None, find_device(device)).digest
        for task, seed in product(tasks, seeds):
            if seed != seeds[0] and find_task(task).evaluate is not None:
                continue
            made = mini_set(task)
            out = folder / f"{task}-{system}-seed{seed}.json"
            if _is_of(out, digest, made):
                logger.info("%s is there", out)
                continue
            name = f"{made.root.name}-{system}-{digest[:8] or 'plain'}-seed{seed}"
            request = Request(
                task=task,
                upstream=system,
                checkpoint=checkpoint,
                folder=RESULTS / "superb_mini" / name,
                auto_resume=True,
                device=device,
                seed=seed,
                **options,
            )
            outcome = run(request)
            if outcome.result is None:
                return outcome.folder
            write_result(outcome.result, out)
    return None


def _is_of(path: Path, digest: str, made: MiniSet) -> bool:
    """Return whether a result is there, of these weights and of this mini set."""
    if not path.is_file():
        return False
    result = read_result(path)
    return result.checkpoint_hash == digest and result.protocol.get("notes") == list(made.notes)
