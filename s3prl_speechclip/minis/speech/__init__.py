"""The speech that the mini HuBERT is trained on: some 21 hours, people and synthetic voices.

Fetched from Debian's packages and synthesised once, in the cache. Of the stamps only the training
recordings are in it: no recording of their splits `test_image`, `test_speaker`, `dev_image` and
`dev_speaker`, no caption that only those have, and none of the synthetic voices that they hold out,
but for flite's rms in `probe_test`, which is not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...data.cache import cache_home, made_once
from ...data.corpora import load_corpus
from .. import debian
from ..synthesis import fetch_libraries
from . import read_aloud, recorded
from .corpus import RECORDINGS, SOURCES, Count, Recording, SpeechCorpus, load
from .items import Item
from .prepare import prepare

__all__ = ["SOURCES", "Count", "Recording", "SpeechCorpus", "load_speech"]

PREPARED = 1  # counts up whenever the recordings change


def load_speech(archive: str | Path | None = None) -> SpeechCorpus:
    """Give the corpus; fetch and make it at the first use, some 8 minutes on two cores.

    Args:
        archive: packages as .deb files, for machines without apt-get.

    Raises:
        CorpusError: a package cannot be had, the disk is full.
    """
    folder = cache_home() / "speech" / f"v{PREPARED}"
    if not (folder / RECORDINGS).is_file():
        by_hand = Path(archive).expanduser() if archive else None
        libraries = fetch_libraries(by_hand)
        items = tuple(_items(by_hand))
        made_once(folder, lambda to: prepare(items, libraries, to))
    return load(folder)


def _items(archive: Path | None) -> Iterator[Item]:
    manifest = load_corpus("stamps", archive=archive)
    *packages, words = debian.packages([*recorded.PACKAGES, read_aloud.WORD_LIST], archive)
    fillets, asterisk, hedgewars, ktuberling = (package.root for package in packages)
    texts = recorded.prompts(archive)
    yield from recorded.stamps(manifest)
    yield from recorded.fillets(fillets)
    yield from recorded.asterisk(asterisk, texts)
    yield from recorded.hedgewars(hedgewars)
    yield from recorded.ktuberling(ktuberling)
    said = read_aloud.words_to_say(words.root)
    yield from read_aloud.readings(manifest, tuple(texts.values()), said)
