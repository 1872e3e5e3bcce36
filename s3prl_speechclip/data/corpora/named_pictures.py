"""A corpus to train on beside another: emoji and word cards, their names read aloud in English."""

from __future__ import annotations

from .corpus import Corpus
from .own import read_manifest

CORPUS = Corpus(
    name="named_pictures",
    title="named pictures",
    layout="manifest.jsonl and the files that it names",
    read=read_manifest,
    fetched=True,
)
