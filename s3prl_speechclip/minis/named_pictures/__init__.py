"""A corpus to train on beside another: emoji and word cards, their names read aloud in English.

Everything is fetched from Debian and prepared once in the cache. Pictures that look like one of the
stamps that are held out from training are left out, so that training on both never shows a held-out
picture; the voices that the stamps hold out read nothing.
"""

from __future__ import annotations

from pathlib import Path

from ...data.cache import cache_home, is_prepared, made_once
from ...data.manifest import Manifest
from .. import stamps
from ..stamps.prepare import Progress
from ..stamps.progress import Bars
from ..stamps.splits import DEV_SPLITS, TEST_SPLITS
from ..synthesis import fetch_libraries
from .build import CORPUS, MANIFEST, build

PREPARED = 1  # counts up whenever the prepared files change


def read(
    root: Path | None = None,
    archive: Path | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Give the corpus, which has a training split only; fetch and prepare it at the first use.

    Args:
        root: the folder of the prepared corpus, by default one in the cache.
        archive: a package as a .deb file, or a folder of .deb files, for machines without
            apt-get.
        skip_broken: as of the stamps, which are read for their held-out pictures.
        progress: told what is being done; by default bars on standard error.

    Raises:
        CorpusError: a package cannot be had or is not as expected, the disk is full.
    """
    root = root or cache_home() / CORPUS / f"v{PREPARED}"
    if not is_prepared(root, MANIFEST):
        held_out = _held_out(stamps.read(archive=archive, skip_broken=skip_broken))
        libraries = fetch_libraries(archive)
        made_once(
            root, lambda folder: build(folder, held_out, libraries, archive, progress or Bars())
        )
    return Manifest.load(root / MANIFEST)


def _held_out(manifest: Manifest) -> list[Path]:
    splits = {s for s in (*DEV_SPLITS, *TEST_SPLITS) if s.endswith("image")}
    images = sorted({u.image for u in manifest.utterances if u.split in splits})
    return [manifest.path(image) for image in images]
