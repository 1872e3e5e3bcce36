"""Flickr8k with the Flickr Audio Caption Corpus: 8,000 photographs, 40,000 read captions.

Captions: Hodosh, Young, Hockenmaier 2013. Recordings: Harwath and Glass 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import read_lines, read_table
from ..manifest import Manifest, Utterance, Word
from .corpus import Corpus, fullest_folder

SPLITS = ("train", "dev", "test")
IMAGE_FOLDERS = (
    "Images",
    "Flicker8k_Dataset",  # as the archive spells it
    "Images/Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
    "images",
)
CAPTIONS = "Flickr8k.token.txt"
KAGGLE_CAPTIONS = "captions.txt"
WAVS = "flickr_audio/wavs"
ALIGNMENTS = ("flickr_audio/flickr_8k.ctm", "flickr_audio/Flickr_8k.ctm", "Flickr_8k.ctm")

Captions = dict[str, dict[int, str]]
"""By image and number."""


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read Flickr8k in the layouts of its archives.

    `flickr_audio/wav2capt.txt`, where present, says which captions were recorded; without it every
    caption must have its recording. Speakers come from `flickr_audio/wav2spk.txt`, word times from
    the authors' forced alignments `flickr_8k.ctm`, where present. Captions are verbatim, with their
    final full stop; aligned words are in lower case.
    """
    CORPUS.require_folder(root)
    listings = {
        split: CORPUS.first_file(text_files(root, f"Flickr_8k.{split}Images.txt"))
        for split in SPLITS
    }
    listed = [(split, name) for split, path in listings.items() for name in read_lines(path)]
    folder = image_folder(CORPUS, root, [name for _, name in listed])
    CORPUS.require_folder(root / WAVS)
    captions = _captions(root)
    recorded = _by_recording(root / "flickr_audio" / "wav2capt.txt", "NAME_k.wav NAME.jpg #k")
    speakers = _by_recording(root / "flickr_audio" / "wav2spk.txt", "NAME_k.wav speaker")
    words = _alignments(root)
    utterances = []
    unrecorded = 0
    pair_ids: dict[str, int] = {}
    for split, image in listed:
        if image not in captions:
            raise CORPUS.error(
                f"'{listings[split]}' lists '{image}', which has no caption; {CORPUS.expected}"
            )
        for number, text in sorted(captions[image].items()):
            name = f"{Path(image).stem}_{number}"
            if recorded and name not in recorded:
                unrecorded += 1
                continue
            utterances.append(
                Utterance(
                    utterance_id=name,
                    audio=f"{WAVS}/{name}.wav",
                    image=f"{folder}/{image}",
                    pair_id=pair_ids.setdefault(image, len(pair_ids)),
                    text=text,
                    caption=text,
                    split=split,
                    speaker=speakers.get(name, ""),
                    words=words.get(name, ()),
                )
            )
    note = f"{unrecorded} captions without a recording, by the corpus's own wav2capt.txt"
    return CORPUS.manifest(root, utterances, skip_broken, notes=[note] if unrecorded else [])


def text_files(root: Path, *names: str) -> list[Path]:
    """Return the places where a text file may lie."""
    return [root / folder / name for name in names for folder in ("", "Flickr8k_text")]


def image_folder(corpus: Corpus, root: Path, images: Sequence[str]) -> str:
    """Return the folder that holds Flickr8k's images, relative to the root."""
    found = fullest_folder([root / name for name in IMAGE_FOLDERS], images)
    if found is None:  # named as missing here, or image by image later
        found = next((root / n for n in IMAGE_FOLDERS if (root / n).is_dir()), root / "Images")
        corpus.require_folder(found)
    return found.relative_to(root).as_posix()


def _captions(root: Path) -> Captions:
    """Read the captions of the archive, or the `image,caption` table of Kaggle's copy."""
    path = CORPUS.first_file(text_files(root, CAPTIONS, KAGGLE_CAPTIONS))
    if path.name == CAPTIONS:
        return read_tokens(CORPUS, path)
    captions: Captions = {}
    for _, row in read_table(path, ("image", "caption")):
        of_image = captions.setdefault(row["image"], {})
        of_image[len(of_image)] = row["caption"]
    return captions


def read_tokens(corpus: Corpus, path: Path) -> Captions:
    """Read `NAME.jpg#k<tab>caption`."""
    captions: Captions = {}
    for line in read_lines(path):
        key, tab, text = line.partition("\t")
        image, _, number = key.rpartition("#")
        if not tab or not image or not number.isdecimal():
            raise corpus.malformed(path, "NAME.jpg#k<tab>caption", line)
        captions.setdefault(image, {})[int(number)] = text.strip()
    return captions


def _by_recording(path: Path, form: str) -> dict[str, str]:
    """Read what a list, where present, says of each recording: `NAME_k.wav VALUE`."""
    values = {}
    for line in read_lines(path) if path.is_file() else ():
        wav, *rest = line.split(maxsplit=1)
        if not rest or not wav.endswith(".wav"):
            raise CORPUS.malformed(path, form, line)
        values[wav.removesuffix(".wav")] = rest[0]
    return values


def _alignments(root: Path) -> dict[str, tuple[Word, ...]]:
    """Read `NAME.jpg_#k 1 start duration word`, times in seconds."""
    path = next((root / name for name in ALIGNMENTS if (root / name).is_file()), None)
    if path is None:
        return {}
    words: dict[str, list[Word]] = {}
    for line in read_lines(path):
        try:
            key, _, start, duration, text = line.split()[:5]
            word = Word(text.lower(), float(start), round(float(start) + float(duration), 4))
        except ValueError:
            raise CORPUS.malformed(path, "NAME.jpg_#k 1 start duration word", line) from None
        words.setdefault(key.replace(".jpg_#", "_"), []).append(word)
    return {name: tuple(sorted(spoken, key=lambda w: w.start)) for name, spoken in words.items()}


CORPUS = Corpus(
    name="flickr8k",
    title="Flickr8k",
    layout=(
        "Flickr_8k.{train,dev,test}Images.txt and Flickr8k.token.txt or Kaggle's captions.txt "
        "(there or in Flickr8k_text/), Images/ or Flicker8k_Dataset/, flickr_audio/wavs/NAME_k.wav"
    ),
    read=read,
    published=({"train": 6000, "dev": 1000, "test": 1000},),
)
