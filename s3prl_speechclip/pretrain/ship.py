"""A trained model as it is given away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoint import find_checkpoint, read_checkpoint, write_checkpoint
from ..errors import CheckpointError
from ..model import SpeechClip

CARD = "README.md"


def ship(experiment: Path, folder: Path, about: Mapping[str, Any]) -> SpeechClip:
    """Write the best checkpoint of a run with matrices in float16, and its card beside it.

    Args:
        experiment: folder of the run, or a checkpoint folder.
        folder: made where it is missing; what it holds of an earlier model is replaced.
        about: laid over what the checkpoint says of itself; `model_card` shows `recall`,
            `licence`, `limits` and others.

    Returns:
        The model as the folder gives it.

    Raises:
        CheckpointError: there is no checkpoint, or the folder cannot be written.
    """
    stored = read_checkpoint(find_checkpoint(experiment))
    write_checkpoint(folder, replace(stored, about={**stored.about, **about}), half=True)
    model = SpeechClip.from_pretrained(folder)
    try:
        (folder / CARD).write_text(str(model.generate_model_card()), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write '{folder / CARD}': {error.strerror}") from error
    return model
