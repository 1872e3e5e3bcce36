"""Decoded keywords as a page to look at and listen to: one HTML file, no server."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, WORD_END, decode, tokenizer
from s3prl_speechclip.errors import ResultError
from s3prl_speechclip.structures import SAMPLE_RATE, TaskResult

from ..formulas.keyword_scores import Neighbours, read_caption
from ..shared.captions import language_of
from ..shared.decoding import FRAME, Decoded, captioned_recordings, evenly
from . import fill

PEAKS = 500  # columns of a waveform
TEMPLATE = "keywords.html"


def write_page(
    result: TaskResult,
    decoded: dict[str, list[Decoded]],
    neighbours: Neighbours,
    manifest: Manifest,
    path: Path,
    recordings: int,
) -> None:
    """Write the page of a keyword result.

    Args:
        result: the result, for the title.
        decoded: recordings by split.
        neighbours: nearest tokens of every token.
        manifest: the corpus, for the recordings' files.
        path: file of the page.
        recordings: number of English recordings of each split that are shown, spread evenly.

    Raises:
        AudioError: a recording cannot be read.
        ResultError: the page cannot be written.
    """
    shown = []
    for split, ones in decoded.items():
        english = [one for one in ones if language_of(one.utterance) == "en"]
        captioned = captioned_recordings(english)
        chosen = sorted(evenly(len(captioned), recordings))
        shown += [
            _recording(one, caption, split, neighbours, manifest)
            for one, caption in (captioned[place] for place in chosen)
        ]
    data = {
        "title": f"Keywords of {result.system} ({result.size}) on {result.corpus}",
        "subtitle": "; ".join(
            f"{split}: hit rate {found['with_stop_words']['hit_rate']['mean']:.1f} % "
            f"(chance {found['with_stop_words']['hit_rate']['chance']:.1f} %), "
            f"{found['counts']['keywords']:.1f} keywords for {found['counts']['words']:.1f} words, "
            f"{min(recordings, found['recordings'])} of {found['recordings']} recordings shown"
            for split, found in result.metrics.items()
        ),
        "mini": result.mini,
        "frame": FRAME,
        "recordings": shown,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fill(TEMPLATE, data), encoding="utf-8")
    except OSError as error:
        raise ResultError(f"cannot write the page '{path}': {error.strerror}") from error


def token_text(token_id: int) -> str:
    """Return a token as shown: its text, with a dash where it is only the beginning of a word."""
    if token_id in SPECIAL_TOKENS:
        return f"({token_id})"
    piece = tokenizer().decoder.get(token_id, "")
    return decode([token_id]) + ("" if piece.endswith(WORD_END) else "-")


def _recording(
    one: Decoded, caption: str, split: str, neighbours: Neighbours, manifest: Manifest
) -> dict[str, Any]:
    utterance = one.utterance
    waveform = read_audio(manifest.path(utterance.audio))
    tokens = read_caption(caption).tokens
    keywords = [
        [[token_text(near), near in tokens] for near in neighbours[token]]
        for token in one.token_ids
    ]
    alpha = [] if one.alpha is None else (100 * one.alpha).round().astype(int).tolist()
    return {
        "name": utterance.utterance_id,
        "caption": caption,
        "split": split,
        "speaker": "synthetic" if utterance.synthetic else "human",
        "duration": round(len(waveform) / SAMPLE_RATE, 4),
        "audio": _audio(waveform),
        "peaks": _peaks(waveform),
        "alpha": alpha,
        "spans": [[round(onset, 4), round(offset, 4)] for onset, offset in one.spans],
        "words": [[w.text, round(w.start, 4), round(w.end, 4)] for w in utterance.words],
        "keywords": keywords,
        "hits": sum(any(hit for _, hit in near) for near in keywords),
    }


def _audio(waveform: np.ndarray) -> str:
    """Return a recording as a data URL, Opus, some 4 kB a second."""
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1, 1), SAMPLE_RATE, format="OGG", subtype="OPUS")
    return "data:audio/ogg;base64," + base64.b64encode(file.getvalue()).decode()


def _peaks(waveform: np.ndarray) -> Sequence[Sequence[int]]:
    """Return the lowest and highest sample of each column, percent of the loudest."""
    loudest = float(np.abs(waveform).max()) or 1.0
    parts = np.array_split(waveform / loudest, min(PEAKS, len(waveform)))
    return [[round(100 * float(p.min())), round(100 * float(p.max()))] for p in parts]
