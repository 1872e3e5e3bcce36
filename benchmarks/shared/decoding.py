"""Keywords that a model decodes from the recordings of a split, their times and its attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from s3prl_speechclip.data.batches import OnBroken, PairDataset, approximate_lengths, load_batches
from s3prl_speechclip.data.feature_store import FeatureStore
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.data.sampling import evaluation_batches
from s3prl_speechclip.errors import ConfigError, CorpusError, ResultError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.quantizer import cosine_scores
from s3prl_speechclip.structures import HOP, SAMPLE_RATE, SpeechFeatures, SpeechOutput

from ..formulas.keyword_scores import NEIGHBOURS
from .captions import english_caption

FRAME = HOP / SAMPLE_RATE  # seconds
BLOCK = 1024  # tokens whose neighbours are searched at once
ATTENDED = 0.9  # quantile of a head's attention from which on a frame is attended to


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One recording, and what a model decodes from it."""

    utterance: Utterance
    frames: int
    """Valid ones, 20 ms each."""
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


def require_keywords(model: SpeechClip) -> None:
    """Check that a model has a cascaded branch.

    Raises:
        ConfigError: it has none.
    """
    if model.branch.head is None:
        raise ConfigError(
            f"{model.config.variant} names no keywords: expected a model with a cascaded branch, "
            "such as speechclip_cascaded, speechclip_plus, speechclip_hybrid"
        )


@torch.no_grad()
def decode_split(
    model: SpeechClip,
    manifest: Manifest,
    split: str,
    *,
    batch_size: int,
    skip_broken: bool = False,
    workers: int = 0,
    attention: bool = False,
    vectors: int = 0,
    stored: FeatureStore | None = None,
) -> list[Decoded]:
    """Run a model over a split.

    Args:
        model: the model, in evaluation mode.
        manifest: the corpus.
        split: name of the split.
        batch_size: recordings encoded at once.
        skip_broken: whether recordings that cannot be read are left out.
        workers: processes that read.
        attention: whether the attention of CLS tokens is kept.
        vectors: number of recordings, spread evenly over the split, whose keyword vectors are kept.
        stored: hidden states, read instead of recordings.

    Returns:
        Recordings in the order of the split.

    Raises:
        CorpusError: there is no such split, or none of its recordings can be read.
        AudioError: a recording cannot be read.
        ResultError: a keyword is not a number.
    """
    utterances = manifest.split(split)
    on_broken: OnBroken = "drop" if skip_broken else "raise"
    dataset = PairDataset(manifest, utterances, on_broken=on_broken)
    if stored is not None:
        dataset = dataset.reading(stored)
    batches = evaluation_batches(approximate_lengths(manifest, utterances), batch_size)
    wanted = evenly(len(utterances), vectors)
    device = model.clip.vocabulary.device
    decoded: dict[int, Decoded] = {}
    projected: list[Tensor] = []
    head = model.branch.head
    hook = None
    if head is not None and vectors:
        hook = head.projection.register_forward_hook(lambda *call: projected.append(call[2]))
    try:
        for pairs in tqdm(
            load_batches(dataset, batches, workers),
            total=len(batches),
            desc=split,
            unit="batch",
            disable=None,
            leave=False,
        ):
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
    return [decoded[index] for index in sorted(decoded)]


def left_out(decoded: Sequence[Decoded], manifest: Manifest, split: str) -> list[str]:
    """Return a note on the recordings of a split that could not be read; none where all could."""
    lost = len(manifest.split(split)) - len(decoded)
    return [f"{split}: left out {lost} recordings that cannot be read"] if lost else []


def _decoded(
    utterance: Utterance, output: SpeechOutput, row: int, weights: Tensor | None, raw: Tensor | None
) -> Decoded:
    frames = int(output.lengths[row])
    found: dict = {"utterance": utterance, "frames": frames}
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

    A frame is attended to if it is at or above the quantile `ATTENDED` of any head's attention;
    runs of such frames are segments, single frames only where there are no longer runs.

    Args:
        weights: (heads, frames).

    Returns:
        Onset and offset of each segment, seconds.
    """
    frames = (weights >= np.quantile(weights, ATTENDED, axis=1, keepdims=True)).any(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)
    long = runs[runs[:, 1] - runs[:, 0] > 1]
    return tuple((float(a) * FRAME, float(b) * FRAME) for a, b in (long if len(long) else runs))


@torch.no_grad()
def nearest_tokens(model: SpeechClip, count: int = NEIGHBOURS) -> dict[int, tuple[int, ...]]:
    """Return the tokens of the vocabulary nearest to each token by cosine, itself first.

    In evaluation a keyword is a token's embedding, so that these are its neighbours.

    Args:
        model: the model, with the token embeddings of its CLIP.
        count: number of neighbours; fewer where the vocabulary has no more.

    Returns:
        By original BPE id. Special tokens are no neighbours; they have neighbours themselves,
        because a few released checkpoints let keywords become special tokens.
    """
    codebook = model.clip.codebook()
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


def captioned_recordings(decoded: Sequence[Decoded]) -> list[tuple[Decoded, str]]:
    """Return the recordings with an English caption, and the caption."""
    captioned = [(one, english_caption(one.utterance)) for one in decoded]
    return [(one, caption) for one, caption in captioned if caption]
