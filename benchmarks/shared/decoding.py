"""Keywords that a model decodes from the recordings of a split, and the recordings' captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from s3prl_speechclip.data.manifest import Utterance
from s3prl_speechclip.errors import ConfigError, CorpusError, ResultError
from s3prl_speechclip.structures import HOP, SAMPLE_RATE, SpeechFeatures, SpeechOutput

from ..formulas.keyword_scores import NEIGHBOURS
from ..formulas.segments import Segmented, Span

if TYPE_CHECKING:  # `--help` of benchmarks reads this module, and needs no torch
    from torch import Tensor

    from s3prl_speechclip.data.batches import OnBroken
    from s3prl_speechclip.model.speechclip import SpeechClip

    from .benchmark import Trial

FRAME = HOP / SAMPLE_RATE  # seconds
BLOCK = 1024  # tokens whose neighbours are searched at once
TEXTS = 256  # captions embedded at once
ATTENDED = 0.9  # quantile of a head's attention from which on a frame is attended to


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One recording, and what a model decodes from it."""

    utterance: Utterance
    frames: int
    """Valid ones, 20 ms each."""
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    """(E,) unit vectors by name, float32 on the CPU: parallel, cascaded, as the model has them."""
    token_ids: tuple[int, ...] = ()
    """Original BPE ids of the keywords; empty without a cascaded branch."""
    spans: tuple[tuple[float, float], ...] = ()
    """Seconds, one a keyword, where CIF fires them."""
    alpha: np.ndarray | None = None
    """(frames,) CIF's weights."""
    attention: np.ndarray | None = None
    """(K, frames) of the keywords' CLS tokens to the frames, heads averaged; where requested, and
    keywords come from CLS tokens."""
    attended: tuple[tuple[float, float], ...] = ()
    """Seconds; segments selected by CLS attention, where requested."""
    queries: np.ndarray | None = None
    """(K, D) keywords before quantisation, where requested."""
    unnormed: np.ndarray | None = None
    """(K, D) the same before keyword norm."""

    @property
    def duration(self) -> float:
        """Return the duration in seconds, in whole frames."""
        return self.frames * FRAME

    @property
    def language(self) -> str:
        """Return the recording's language; all kinds of English are one."""
        return self.utterance.spoken_language

    @property
    def caption(self) -> str:
        """Return what is written of the image in English; empty where nothing is."""
        return self.utterance.english

    def segmented(self, spans: Sequence[Span] | None = None) -> Segmented:
        """Return the spans of the keywords, or others, beside the words that were spoken."""
        return Segmented(
            spans=self.spans if spans is None else tuple(spans),
            words=self.utterance.words,
            duration=self.duration,
            token_ids=self.token_ids,
        )


def embed_texts(model: SpeechClip, texts: Sequence[str]) -> Tensor:
    """Embed texts by CLIP; (N, E) unit vectors, float32 on the CPU."""
    import torch

    chunks = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
    return torch.cat([model.encode_text(chunk).float().cpu() for chunk in chunks])


def require_keywords(model: SpeechClip) -> None:
    """Raise a `ConfigError` where a model has no cascaded branch."""
    if model.branch.head is None:
        raise ConfigError(
            f"{model.config.variant} names no keywords: expected a model with a cascaded branch, "
            "such as speechclip_cascaded, speechclip_plus, speechclip_hybrid"
        )


def decode_split(
    trial: Trial, split: str, *, attention: bool = False, vectors: int = 0
) -> list[Decoded]:
    """Run a model over a split.

    Args:
        trial: model, corpus and options; its notes count recordings that cannot be read.
        split: name of the split.
        attention: whether the attention of CLS tokens is kept.
        vectors: number of recordings, spread evenly over the split, whose keyword vectors are kept.

    Returns:
        Recordings in the order of the split.

    Raises:
        CorpusError: there is no such split, or none of its recordings can be read.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    import torch

    from s3prl_speechclip.data.batches import PairDataset, approximate_lengths, load_batches
    from s3prl_speechclip.data.sampling import evaluation_batches

    model, manifest, args = trial.model, trial.manifest, trial.args
    utterances = manifest.split(split)
    on_broken: OnBroken = "drop" if args.skip_broken else "raise"
    dataset = PairDataset(manifest, utterances, on_broken=on_broken)
    if split in trial.stored:
        dataset = dataset.reading(trial.stored[split])
    batches = evaluation_batches(approximate_lengths(manifest, utterances), args.batch_size)
    wanted = evenly(len(utterances), vectors)
    device = model.clip.vocabulary.device
    decoded: dict[int, Decoded] = {}
    projected: list[Tensor] = []
    head = model.branch.head
    hook = None
    if head is not None and vectors:
        hook = head.projection.register_forward_hook(lambda *call: projected.append(call[2]))
    loaded = load_batches(dataset, batches, args.num_workers)
    total = len(batches)
    try:
        with torch.no_grad():
            for pairs in tqdm(loaded, split, total, unit="batch", disable=None, leave=False):
                speech = pairs.speech.to(device)
                features = (
                    speech if isinstance(speech, SpeechFeatures) else model.speech_encoder(speech)
                )
                projected.clear()
                output = model(features)
                weights = None
                if attention:
                    mixed = model.layer_mix(features.hidden_states)
                    weights = model.branch.cls_attention(mixed, features.lengths)
                for row, index in enumerate(pairs.indices.tolist()):
                    raw = projected[0][row] if index in wanted and projected else None
                    decoded[index] = _decoded(utterances[index], output, row, weights, raw)
    finally:
        if hook is not None:
            hook.remove()
    if not decoded:
        raise CorpusError(f"no recording of split '{split}' can be read")
    if lost := len(utterances) - len(decoded):
        trial.notes.append(f"{split}: left out {lost} recordings that cannot be read")
    return [decoded[index] for index in sorted(decoded)]


def _decoded(
    utterance: Utterance, output: SpeechOutput, row: int, weights: Tensor | None, raw: Tensor | None
) -> Decoded:
    frames = int(output.lengths[row])
    embeddings = {name: rows[row].float().cpu() for name, rows in output.embeddings.items()}
    found: dict[str, Any] = {"utterance": utterance, "frames": frames, "embeddings": embeddings}
    if weights is not None:
        shares = weights[row, :, :, :frames].float().cpu().numpy()
        # The first CLS token of a model with a parallel branch is that branch's, and no keyword.
        first = int(output.parallel is not None)
        found["attended"] = attention_segments(shares[0] if first else shares.mean(0))
        if shares.shape[0] > first:
            found["attention"] = shares[first:].mean(1)
    keywords, firing = output.keywords, output.firing
    if keywords is not None:
        count = int(keywords.lengths[row])
        assert keywords.queries is not None
        queries = keywords.queries[row, :count].float()
        if not bool(queries.isfinite().all()):
            raise ResultError(
                f"keywords of '{utterance.utterance_id}' are not numbers; the checkpoint is broken"
            )
        found["token_ids"] = tuple(keywords.token_ids[row, :count].tolist())
        if raw is not None:
            found["queries"] = queries.cpu().numpy()
            found["unnormed"] = raw[:count].float().cpu().numpy()
        if keywords.spans is not None:
            spans = keywords.spans[row, :count].cpu().double().tolist()
            found["spans"] = tuple((onset, offset) for onset, offset in spans)
    if firing is not None:
        found["alpha"] = firing.alpha[row, :frames].float().cpu().numpy()
    return Decoded(**found)


def attention_segments(weights: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return the segments that a CLS token attends to, as VG-HuBERT (arXiv 2203.15081).

    A frame is attended to if it is at or above the quantile `ATTENDED` of any head's attention,
    (heads, frames); runs of such frames are segments, single frames only where there are no longer
    runs. Onset and offset of each are seconds.
    """
    frames = (weights >= np.quantile(weights, ATTENDED, axis=1, keepdims=True)).any(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)
    long = runs[runs[:, 1] - runs[:, 0] > 1]
    return tuple((float(a) * FRAME, float(b) * FRAME) for a, b in (long if len(long) else runs))


def nearest_tokens(model: SpeechClip, count: int = NEIGHBOURS) -> dict[int, tuple[int, ...]]:
    """Return the tokens of the vocabulary nearest to each token by cosine, itself first.

    In evaluation a keyword is a token's embedding, so that these are its neighbours. Special tokens
    are no neighbours; they have neighbours themselves, because a few released checkpoints let
    keywords become special tokens.

    Args:
        model: the model, with the token embeddings of its CLIP.
        count: number of neighbours; fewer where the vocabulary has no more.

    Returns:
        Original BPE ids by original BPE id.
    """
    import torch

    from s3prl_speechclip.modules.quantizer import cosine_scores

    codebook = model.clip.codebook().detach()
    banned = model.clip.banned_rows
    count = min(count, len(codebook) - len(banned))
    near: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(codebook), BLOCK):
        scores = cosine_scores(codebook[start : start + BLOCK], codebook)
        rows = torch.arange(len(scores), device=scores.device)
        # Another token may have the same embedding; a token is its own nearest all the same.
        scores[rows, rows + start] += 1.0
        scores = scores.index_fill(1, banned, float("-inf"))
        found = model.clip.original_ids(scores.topk(count).indices).tolist()
        own = model.clip.original_ids(rows + start).tolist()
        near |= {token: tuple(ids) for token, ids in zip(own, found, strict=True)}
    return near


def evenly(total: int, wanted: int) -> frozenset[int]:
    """Return places spread evenly over a sequence; all of them where there are no more."""
    if wanted >= total:
        return frozenset(range(total))
    return frozenset(place * total // wanted for place in range(wanted))
