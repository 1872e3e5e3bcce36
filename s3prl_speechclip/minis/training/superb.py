"""The five SUPERB tasks on their mini sets, for two models and two baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...downstream.request import RESULTS, Request
from ...downstream.run import run
from ...downstream.upstreams import load_upstream
from ...encoders.shipped import ASSETS
from ...results import read_result, write_result
from ...runtime.devices import find_device

logger = logging.getLogger(__name__)

SHIPPED: Mapping[str, str] = {
    "speechclip_plus": str(ASSETS / "speechclip_plus"),
    "speechclip_hybrid": str(ASSETS / "speechclip_hybrid"),
    "speechclip_encoder": str(ASSETS / "speechclip_hybrid"),
}
"""Checkpoints, so that a model that was trained here in the meantime is not taken instead."""


def run_superb(
    systems: Sequence[str], tasks: Sequence[str], folder: Path, *, device: str, **options: Any
) -> Path | None:
    """Run what has no result yet, or has one of other weights.

    Args:
        systems: names of upstreams.
        tasks: names of tasks.
        folder: folder of the results.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        **options: other fields of a downstream request, such as `override`.

    Returns:
        The folder of the experiment that a signal stopped, or None where all are done.
    """
    for system in systems:
        checkpoint = SHIPPED.get(system)
        digest = load_upstream(system, checkpoint, None, find_device(device)).digest
        for task in tasks:
            out = folder / f"{task}-{system}.json"
            if out.is_file() and read_result(out).checkpoint_hash == digest:
                logger.info("%s is there", out)
                continue
            request = Request(
                task=task,
                upstream=system,
                checkpoint=checkpoint,
                folder=RESULTS / "superb_mini" / f"{task}-{system}-{digest[:8] or 'plain'}",
                auto_resume=True,
                device=device,
                **options,
            )
            outcome = run(request)
            if outcome.result is None:
                return outcome.folder
            write_result(outcome.result, out)
    return None
