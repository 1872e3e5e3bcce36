"""YFACC: spoken Yoruba captions of 6,000 images of Flickr8k (Olaleye, Oneata, Kamper 2023)."""

from __future__ import annotations

from pathlib import Path

from ..manifest import Manifest, Utterance
from .corpus import Corpus
from .flickr8k import CAPTIONS, SPLITS, image_folder, read_tokens, text_files

SPEAKER = "S001"  # all recordings are of one speaker


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read YFACC beside Flickr8k's images.

    The text is the Yoruba caption. English captions of the same number are those of
    `Flickr8k.token.txt`, where it lies in the root or in `Flickr8k_text/`.
    """
    CORPUS.require_folder(root)
    listing = "Flickr8k_text/Flickr8k.token.{}_yoruba.txt"
    paths = {split: CORPUS.first_file([root / listing.format(split)]) for split in SPLITS}
    english = next((read_tokens(CORPUS, p) for p in text_files(root, CAPTIONS) if p.is_file()), {})
    rows = [
        (split, image, number, text)
        for split, path in paths.items()
        for image, captions in read_tokens(CORPUS, path).items()
        for number, text in sorted(captions.items())
    ]
    folder = image_folder(CORPUS, root, [image for _, image, *_ in rows])
    pair_ids: dict[str, int] = {}
    utterances = [
        Utterance(
            utterance_id=f"{SPEAKER}_{Path(image).stem}_{number}",
            audio=f"flickr_audio_yoruba_{split}/{SPEAKER}_{Path(image).stem}_{number}.wav",
            image=f"{folder}/{image}",
            pair_id=pair_ids.setdefault(image, len(pair_ids)),
            text=text,
            caption=english.get(image, {}).get(number, ""),
            split=split,
            speaker=SPEAKER,
            language="yo",
        )
        for split, image, number, text in rows
    ]
    return CORPUS.manifest(root, utterances, skip_broken)


CORPUS = Corpus(
    name="yfacc",
    title="YFACC",
    layout=(
        "Flickr8k_text/Flickr8k.token.{train,dev,test}_yoruba.txt, "
        "flickr_audio_yoruba_{train,dev,test}/S001_NAME_k.wav, and Flickr8k's Images/ or "
        "Flicker8k_Dataset/"
    ),
    read=read,
)
