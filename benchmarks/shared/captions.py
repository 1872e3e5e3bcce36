"""Captions and languages of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s3prl_speechclip.data.manifest import Utterance

if TYPE_CHECKING:
    from s3prl_speechclip.model.speechclip import SpeechClip

TEXTS = 256  # captions embedded at once


def english_caption(utterance: Utterance) -> str:
    """Return what is written of a recording's image in English; empty where nothing is."""
    spoken = utterance.text if language_of(utterance) == "en" else ""
    return (utterance.caption or spoken).strip()


def language_of(utterance: Utterance) -> str:
    """Return a recording's language; all kinds of English are one."""
    return "en" if utterance.language.partition("-")[0] == "en" else utterance.language


def embed_texts(model: SpeechClip, texts: Sequence[str]) -> Tensor:
    """Embed texts by CLIP; (N, E) unit vectors, float32 on the CPU."""
    chunks = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
    return torch.cat([model.encode_text(chunk).float().cpu() for chunk in chunks])
