"""A folder of one's own, described by a `manifest.jsonl`."""

from __future__ import annotations

from pathlib import Path

from ..manifest import MANIFEST, Manifest
from .corpus import Corpus


def read_manifest(root: Path, skip_broken: bool = False) -> Manifest:
    """Read a folder's `manifest.jsonl`.

    Raises:
        CorpusError: the manifest is missing, of another format or damaged.
    """
    return Manifest.load(root / MANIFEST)


CORPUS = Corpus(
    name="own",
    title="own",
    layout="manifest.jsonl and the files that it names",
    read=read_manifest,
)
