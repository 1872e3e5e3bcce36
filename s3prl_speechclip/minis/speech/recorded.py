"""Speech that Debian's packages hold: games, telephone prompts, a children's drawing program."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from ...data.manifest import Manifest
from .. import debian
from .items import Item, split_of

PACKAGES = (
    "fillets-ng-data-nl",
    "asterisk-core-sounds-en-wav",
    "hedgewars-data",
    "ktuberling-data",
)
TRANSCRIPTS = "asterisk-core-sounds-en"
"""The package with the text of the telephone prompts."""

HEARD = "train"
"""The split of stamps that is taken: the recordings of all others are kept for tests."""

PACK_LANGUAGES = {
    "Default_es": "es",
    "Default_pl": "pl",
    "Default_ru": "ru",
    "Default_uk": "uk",
    "Russian_pl": "pl",
}
"""hedgewars' packs that are not English."""

NO_PHRASE = re.compile(r"(Jump|Ooff|Ow|Ouch|Hmm|Laugh|Poison)", re.ASCII)
"""hedgewars' recordings that hold no words."""

NOT_SPOKEN = re.compile(r"[\[<(]\s*(this is|sound|ascending|descending|beep|\d+ second)", re.ASCII)
"""In transcripts of telephone prompts: tones, silence, monkeys."""


def stamps(manifest: Manifest) -> Iterator[Item]:
    """Give the training recordings of the stamps, by people and by synthetic voices."""
    for utterance in manifest.split(HEARD):
        recording_id = f"tuxpaint-stamps-default/{utterance.utterance_id}"
        yield Item(
            recording_id=recording_id,
            source="stamps read aloud" if utterance.synthetic else "tuxpaint-stamps-default",
            speaker=utterance.speaker if utterance.synthetic else f"stamps-{utterance.language}",
            language=utterance.language,
            split=split_of(recording_id),
            path=manifest.path(utterance.audio),
            text=utterance.text,
            synthetic=utterance.synthetic,
        )


def fillets(root: Path) -> Iterator[Item]:
    """Give the Dutch dialogues; the letter in a file's name says which fish speaks."""
    for name, path in _files(root / "usr/share/games/fillets-ng/sound", ".ogg"):
        found = re.search(r"-([mv])-", path.stem)
        who = {"m": "small", "v": "big"}[found[1]] if found else "others"
        yield _item("fillets-ng-data-nl", name, path, f"fillets-{who}", "nl")


def asterisk(root: Path, texts: dict[str, str]) -> Iterator[Item]:
    """Give the telephone prompts, but tones, silence and noises."""
    for name, path in _files(root / "usr/share/asterisk/sounds/en_US_f_Allison", ".wav"):
        text = texts.get(name, "")
        if not name.startswith("silence/") and not NOT_SPOKEN.search(text):
            yield _item(
                "asterisk-core-sounds-en-wav", name, path, "asterisk-allison", "en", text=text
            )


def hedgewars(root: Path) -> Iterator[Item]:
    """Give the phrases of the voice packs."""
    for name, path in _files(root / "usr/share/games/hedgewars/Data/Sounds/voices", ".ogg"):
        pack = path.parent.name
        if not NO_PHRASE.match(path.stem):
            yield _item(
                "hedgewars-data",
                name,
                path,
                f"hedgewars-{pack.casefold()}",
                PACK_LANGUAGES.get(pack, "en"),
                phrase=path.stem.casefold(),
            )


def ktuberling(root: Path) -> Iterator[Item]:
    """Give the names of things; a folder is a language, and `sr@latin` one with its script.

    Norwegian's, 190 names in Opus, are left out: the system's libsndfile may not read them.
    """
    for suffix in (".ogg", ".wav"):
        for name, path in _files(root / "usr/share/ktuberling/sounds", suffix):
            language = path.parent.name.partition("@")[0]
            yield _item("ktuberling-data", name, path, f"ktuberling-{language}", language)


def prompts(archive: Path | None = None) -> dict[str, str]:
    """Give the text of the telephone prompts by name, such as `digits/1`."""
    (package,) = debian.packages([TRANSCRIPTS], archive)
    path = package.root / f"usr/share/doc/{TRANSCRIPTS}/core-sounds-en.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
    rows = (line.partition(":") for line in lines if not line.startswith(";"))
    return {name.strip(): text.strip() for name, _, text in rows if text.strip()}


def _item(
    source: str,
    name: str,
    path: Path,
    speaker: str,
    language: str,
    *,
    text: str = "",
    phrase: str = "",
) -> Item:
    recording_id = f"{source}/{name}"
    return Item(
        recording_id=recording_id,
        source=source,
        speaker=speaker,
        language=language,
        split=split_of(recording_id),
        path=path,
        text=text,
        phrase=phrase,
    )


def _files(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """Give the recordings under a folder with their names in it, in a fixed order."""
    for path in sorted(folder.rglob(f"*{suffix}")):
        yield path.relative_to(folder).with_suffix("").as_posix(), path
