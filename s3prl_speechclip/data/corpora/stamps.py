"""The default corpus: drawings and photographs, described by people in 13 languages.

The pictures and recordings are those of Debian's tuxpaint-stamps-default; synthetic voices read
each English caption as well, with the times of the words.
"""

from __future__ import annotations

from .corpus import Corpus
from .own import read_manifest

CORPUS = Corpus(
    name="stamps",
    title="stamps",
    layout="manifest.jsonl and the files that it names",
    read=read_manifest,
    fetched=True,
)
