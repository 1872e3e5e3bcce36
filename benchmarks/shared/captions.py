"""Captions and languages of recordings."""

from __future__ import annotations

from s3prl_speechclip.data.manifest import Utterance


def english_caption(utterance: Utterance) -> str:
    """Return what is written of a recording's image in English; empty where nothing is."""
    spoken = utterance.text if language_of(utterance) == "en" else ""
    return (utterance.caption or spoken).strip()


def language_of(utterance: Utterance) -> str:
    """Return a recording's language; all kinds of English are one."""
    return "en" if utterance.language.partition("-")[0] == "en" else utterance.language
