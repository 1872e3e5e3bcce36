"""What is trained: s3prl's featurizer and expert, and the upstream where it is fine-tuned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Records = defaultdict[str, list[Any]]


class Probe(nn.Module):
    """Recordings or their features to an expert's loss.

    Args:
        featurizer: s3prl's, weighs and selects hidden states.
        expert: s3prl's, the task's head.
        upstream: fine-tuned along with them, or None: its features are given.
        specaug: s3prl's masking of features in training, or None.
    """

    def __init__(
        self,
        featurizer: nn.Module,
        expert: nn.Module,
        upstream: nn.Module | None = None,
        specaug: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.featurizer = featurizer
        self.expert = expert
        self.upstream = upstream
        self.specaug = specaug
        # Not an argument of forward: a distributed wrapper hands copies of those on.
        self.records: Records = defaultdict(list)

    def forward(
        self,
        split: str,
        wavs: Sequence[Tensor],
        features: Any,
        others: Sequence[Any],
        batch_id: int,
    ) -> Tensor:
        """Give the mean loss of a batch; what the expert notes goes to `records`.

        Args:
            split: the expert's name of it.
            wavs: 1-D each.
            features: of the frozen upstream; None where the upstream is trained.
            others: what the expert's collation gave beside the recordings.
            batch_id: of the batch in its split.
        """
        if self.upstream is not None:
            features = self.upstream(wavs)
        frames = self.featurizer(wavs, features)
        if self.specaug is not None and self.training:
            frames, _ = self.specaug(frames)
        loss: Tensor = self.expert(split, frames, *others, records=self.records, batch_id=batch_id)
        return loss

    def states(self) -> dict[str, dict[str, Tensor]]:
        """Give the weights by the names that s3prl's checkpoints have."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_states(self, states: dict[str, Any]) -> None:
        """Take weights over, of those parts that a checkpoint has.

        Raises:
            RuntimeError: they do not fit.
        """
        for name, part in self._parts().items():
            if name in states:
                # The best score is set by replacing the buffer, at whatever length.
                part.load_state_dict(states[name])

    def _parts(self) -> dict[str, nn.Module]:
        parts = {"Featurizer": self.featurizer, "Downstream": self.expert}
        return parts | ({"Upstream": self.upstream} if self.upstream is not None else {})


def new_records() -> Records:
    """Give what an expert notes into."""
    return defaultdict(list)


def on_device(wavs: Sequence[Any], device: torch.device) -> list[Tensor]:
    """Move recordings to a device."""
    return [torch.from_numpy(wav).to(device) for wav in wavs]
