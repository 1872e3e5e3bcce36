"""YFACC: spoken Yoruba captions of 6,000 images of Flickr8k (Olaleye, Oneata, Kamper 2023)."""

from __future__ import annotations

from pathlib import Path

from ..manifest import Manifest, Utterance
from .corpus import Corpus
from .flickr8k import image_folder, read_tokens

SPLITS = ("train", "dev", "test")
SPEAKER = "S001"  # all recordings are of one speaker


def read(root: Path, skip_broken: bool = False) -> Manifest:
    """Read YFACC beside Flickr8k's images.

    The text is the Yoruba caption. English captions of the same number are those of
    `Flickr8k.token.txt`, where it lies in the root or in `Flickr8k_text/`.
    """
    CORPUS.require_folder(root)
    texts = {}
    for split in SPLITS:
        path = root / "Flickr8k_text" / f"Flickr8k.token.{split}_yoruba.txt"
        texts[split] = read_tokens(CORPUS, CORPUS.first_file([path]))
    tokens = [root / folder / "Flickr8k.token.txt" for folder in ("", "Flickr8k_text")]
    english = next((read_tokens(CORPUS, path) for path in tokens if path.is_file()), {})
    images = [image for captions in texts.values() for image in captions]
    folder = image_folder(CORPUS, root, images)
    pair_ids = {image: number for number, image in enumerate(dict.fromkeys(images))}
    utterances = []
    for split, captions in texts.items():
        for image, numbered in captions.items():
            for number, text in sorted(numbered.items()):
                name = f"{SPEAKER}_{Path(image).stem}_{number}"
                utterances.append(
                    Utterance(
                        utterance_id=name,
                        audio=f"flickr_audio_yoruba_{split}/{name}.wav",
                        image=f"{folder}/{image}",
                        pair_id=pair_ids[image],
                        text=text,
                        caption=english.get(image, {}).get(number, ""),
                        split=split,
                        speaker=SPEAKER,
                        language="yo",
                    )
                )
    return CORPUS.manifest(root, utterances, skip_broken, sizes=True)


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
