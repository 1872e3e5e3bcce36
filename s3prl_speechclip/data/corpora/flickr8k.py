"""Flickr8k with the Flickr Audio Caption Corpus: 8,000 photographs, 40,000 read captions.

Captions: Hodosh, Young, Hockenmaier 2013. Recordings: Harwath and Glass 2015.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from ...errors import CorpusError
from ..manifest import Manifest, Utterance, Word
from .files import expected, first_file, keep_sound, read_lines, require_folder, require_splits

log = logging.getLogger(__name__)

NAME = "flickr8k"
SPLITS = ("train", "dev", "test")
LAYOUT = (
    "Flickr_8k.{train,dev,test}Images.txt and Flickr8k.token.txt (there or in Flickr8k_text/), "
    "Images/ or Flicker8k_Dataset/, flickr_audio/wavs/NAME_k.wav"
)
TEXT_FOLDERS = ("", "Flickr8k_text")
IMAGE_FOLDERS = ("Images", "Flicker8k_Dataset")
WAVS = "flickr_audio/wavs"
ALIGNMENTS = ("flickr_audio/flickr_8k.ctm", "flickr_audio/Flickr_8k.ctm", "Flickr_8k.ctm")


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read Flickr8k in its published layout.

    `flickr_audio/wav2capt.txt`, where present, says which captions were recorded; without it every
    caption must have its recording. Speakers come from `flickr_audio/wav2spk.txt`, word times from
    the authors' forced alignments `flickr_8k.ctm`, where present. Captions are verbatim, with their
    final full stop; aligned words are in lower case.

    Args:
        root: the folder that holds the lists.
        skip_broken: leave out, and count, recordings whose own file or image is missing or empty.

    Raises:
        CorpusError: a list, a recording or an image is missing or empty, or a list is malformed.
    """
    require_folder(NAME, root, LAYOUT)
    images = next((name for name in IMAGE_FOLDERS if (root / name).is_dir()), IMAGE_FOLDERS[0])
    require_folder(NAME, root / images, LAYOUT)
    require_folder(NAME, root / WAVS, LAYOUT)
    captions = _captions(_text_file(root, "Flickr8k.token.txt"))
    recorded = _recorded(root / "flickr_audio" / "wav2capt.txt")
    speakers = _speakers(root / "flickr_audio" / "wav2spk.txt")
    words = _alignments(root)

    utterances = []
    unrecorded = 0
    pair_ids: dict[str, int] = {}
    for split in SPLITS:
        listing = _text_file(root, f"Flickr_8k.{split}Images.txt")
        for image in read_lines(NAME, listing):
            pair_id = pair_ids.setdefault(image, len(pair_ids))
            for number, text in _of_image(captions, image, listing):
                name = f"{Path(image).stem}_{number}"
                if recorded is not None and name not in recorded:
                    unrecorded += 1
                    continue
                utterances.append(
                    Utterance(
                        utterance_id=name,
                        audio=f"{WAVS}/{name}.wav",
                        image=f"{images}/{image}",
                        pair_id=pair_id,
                        text=text,
                        caption=text,
                        split=split,
                        speaker=speakers.get(name, ""),
                        words=words.get(name, ()),
                    )
                )
    kept, notes = keep_sound(NAME, root, utterances, skip_broken, sizes=True)
    require_splits(NAME, kept, SPLITS)
    if unrecorded:
        notes += (f"{unrecorded} captions without a recording, by the corpus's own wav2capt.txt",)
        log.warning("%s: %s", NAME, notes[-1])
    return Manifest(corpus=NAME, root=root, utterances=kept, notes=notes)


def _text_file(root: Path, name: str) -> Path:
    return first_file(NAME, [root / folder / name for folder in TEXT_FOLDERS], LAYOUT)


def _captions(path: Path) -> dict[str, dict[int, str]]:
    """Read `NAME.jpg#k<tab>caption`: captions by image and number."""
    captions: dict[str, dict[int, str]] = {}
    for line in read_lines(NAME, path):
        key, tab, text = line.partition("\t")
        image, _, number = key.rpartition("#")
        if not tab or not image or not number.isdecimal():
            raise _malformed(path, "NAME.jpg#k<tab>caption", line)
        captions.setdefault(image, {})[int(number)] = text.strip()
    return captions


def _of_image(
    captions: dict[str, dict[int, str]], image: str, listing: Path
) -> Iterator[tuple[int, str]]:
    if image not in captions:
        raise CorpusError(
            f"{NAME}: '{listing}' lists '{image}', which Flickr8k.token.txt has no caption of; "
            f"{expected(LAYOUT)}"
        )
    yield from sorted(captions[image].items())


def _recorded(path: Path) -> set[str] | None:
    """Read `NAME_k.wav NAME.jpg #k`: the recordings that the corpus says it has."""
    if not path.is_file():
        return None
    names = set()
    for line in read_lines(NAME, path):
        wav = line.split()[0]
        if not wav.endswith(".wav"):
            raise _malformed(path, "NAME_k.wav NAME.jpg #k", line)
        names.add(wav.removesuffix(".wav"))
    return names


def _speakers(path: Path) -> dict[str, str]:
    """Read `NAME_k.wav speaker`."""
    if not path.is_file():
        return {}
    speakers = {}
    for line in read_lines(NAME, path):
        wav, _, speaker = line.partition(" ")
        if not speaker:
            raise _malformed(path, "NAME_k.wav speaker", line)
        speakers[wav.removesuffix(".wav")] = speaker.strip()
    return speakers


def _alignments(root: Path) -> dict[str, tuple[Word, ...]]:
    """Read `NAME.jpg_#k 1 start duration word`, times in seconds."""
    path = next((root / name for name in ALIGNMENTS if (root / name).is_file()), None)
    if path is None:
        return {}
    words: dict[str, list[Word]] = {}
    for line in read_lines(NAME, path):
        fields = line.split()
        try:
            start, duration = float(fields[2]), float(fields[3])
            word = Word(fields[4].lower(), start, round(start + duration, 4))
        except (IndexError, ValueError):
            raise _malformed(path, "NAME.jpg_#k 1 start duration word", line) from None
        words.setdefault(fields[0].replace(".jpg_#", "_"), []).append(word)
    return {name: tuple(sorted(spoken, key=lambda w: w.start)) for name, spoken in words.items()}


def _malformed(path: Path, form: str, line: str) -> CorpusError:
    return CorpusError(f"{NAME}: '{path}' must hold lines '{form}', found '{line[:80]}'")
