"""The types that are passed through the package.

Axes: B batch, L samples, T frames, K keywords, D width, V vocabulary, E joint space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # `--help` reads this module, and needs no torch
    from torch import Tensor

B = TypeVar("B", bound="_Batch")

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples per encoder frame, 20 ms at 16 kHz
WINDOW = 400  # samples under an encoder frame, 25 ms at 16 kHz


def _no_indices() -> Tensor:
    import torch

    return torch.empty(0, dtype=torch.int64)


def _no_words() -> Tensor:
    import torch

    return torch.empty(0, 0, 2, dtype=torch.int64)


class _Batch:
    """Tensors that are moved and cut together; what is not for a device stays on the CPU."""

    def map(self: B, change: Callable[[Tensor], Tensor]) -> B:
        """Return a batch of changed tensors; texts and places of recordings are kept."""
        return _mapped(self, change)

    def to(self: B, device: Any) -> B:
        """Return the batch on a device; pinned memory is copied while the host goes on."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: B) -> B:
        """Return the batch in pinned memory; a data loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory())


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in fields(value) if f.name not in ("texts", "indices")]
        return replace(value, **{name: _mapped(getattr(value, name), change) for name in names})
    if isinstance(value, tuple):
        return tuple(_mapped(part, change) for part in value)
    return change(value)


@dataclass  # not frozen: Fabric rebuilds what passes a wrapped module, field by field
class SpeechBatch(_Batch):
    """Padded recordings."""

    waveforms: Tensor
    """(B, L) float32, 16 kHz, in [-1, 1], zero on padding."""
    lengths: Tensor
    """(B,) int64, valid samples."""
    words: Tensor = field(default_factory=_no_words)
    """(B, W, 2) int64, onset and offset of each spoken word in samples, zero beyond a recording's
    words and where they are not known; empty where no recording's are."""


@dataclass  # not frozen: Fabric rebuilds what passes a wrapped module, field by field
class PairBatch(_Batch):
    """Recordings, the images that they describe, and their captions."""

    speech: SpeechBatch | SpeechFeatures
    """Recordings, or the frozen speech encoder's features of them."""
    images: Tensor
    """Pixels (B, 3, H, W), or features of CLIP's frozen image trunk (B, F); F is 0 without."""
    pair_ids: Tensor
    """(B,) int64. Rows with one id describe the same image and are never negatives."""
    texts: tuple[str, ...] = ()
    """Written English captions, B of them; empty where a corpus has none."""
    indices: Tensor = field(default_factory=_no_indices)
    """(B,) int64, places of the recordings in their split, on the CPU."""


@dataclass  # not frozen: Fabric rebuilds what passes a wrapped module, field by field
class SpeechFeatures(_Batch):
    """Output of a speech encoder."""

    hidden_states: tuple[Tensor, ...]
    """Input of the first layer, then the output of each layer; (B, T, D) each."""
    lengths: Tensor
    """(B,) int64, valid frames."""
    words: Tensor = field(default_factory=_no_words)
    """(B, W, 2) word times, as in `SpeechBatch`."""


@dataclass(frozen=True)
class Keywords:
    """The keywords that a cascaded branch chose."""

    embeddings: Tensor
    """(B, K, D) quantised CLIP token embeddings, zero beyond `lengths`."""
    token_ids: Tensor
    """(B, K) int64, original BPE ids, 0 beyond `lengths`."""
    lengths: Tensor
    """(B,) int64, keywords per utterance."""
    spans: Tensor | None = None
    """(B, K, 2) float32, onset and offset in seconds from the start of the recording, zero beyond
    `lengths`; only where a segmenter makes them of frames."""
    queries: Tensor | None = None
    """(B, K, D) continuous keywords before quantisation."""
    probabilities: Tensor | None = None
    """(B, K, V) the quantiser's soft choice of a row of the codebook, in training."""
    words: tuple[tuple[str, ...], ...] = ()
    """Text of each utterance's tokens, a string a keyword; filled by `SpeechClip.encode_speech`."""


@dataclass(frozen=True)
class Firing:
    """CIF's weights and quantity, for the loss and for inspection."""

    alpha: Tensor
    """(B, T) weights in [0, 1] before any scaling, zero on padding."""
    quantity: Tensor
    """(B,) sum of alpha: the predicted number of keywords."""
    target: Tensor
    """(B,) int64, number of keywords, target of the quantity loss."""


@dataclass(frozen=True)
class SpeechOutput:
    """Output of a model for a batch of recordings."""

    hidden_states: tuple[Tensor, ...]
    """Encoder states, then the branch's own; (B, T, D) each."""
    lengths: Tensor
    """(B,) int64, valid frames."""
    parallel: Tensor | None = None
    """(B, E) unit vectors of the parallel branch, or None."""
    cascaded: Tensor | None = None
    """(B, E) unit vectors of the cascaded branch, or None."""
    keywords: Keywords | None = None
    firing: Firing | None = None

    @property
    def embeddings(self) -> dict[str, Tensor]:
        """The utterance embeddings of this model, by name."""
        named = {"parallel": self.parallel, "cascaded": self.cascaded}
        return {name: value for name, value in named.items() if value is not None}


@dataclass  # not frozen: Fabric rebuilds what passes a wrapped module, field by field
class StepOutput:
    """One training step's objective."""

    losses: Mapping[str, Tensor]
    """Weighted terms by name, scalars; the step minimises their sum."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Figures to log beside the losses."""

    @property
    def loss(self) -> Tensor:
        total: Tensor = sum(self.losses.values())  # type: ignore[assignment]
        return total


@dataclass(frozen=True)
class TaskResult:
    """One evaluated task, as stored in a result JSON."""

    task: str
    system: str
    size: str
    corpus: str
    checkpoint: str
    """Path or id as given by the user."""
    checkpoint_hash: str
    metrics: Mapping[str, Any]
    protocol: Mapping[str, Any]
    """Settings needed to repeat the measurement."""
    seed: int
    versions: Mapping[str, str]
    wall_time: float
    """Seconds."""
    mini: bool
    """True where corpus or model is a miniature; shown wherever the result is."""
