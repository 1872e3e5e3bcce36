"""YFACC in its published layout, whole and damaged."""

from pathlib import Path

import pytest
from small_corpus import write_files

from s3prl_speechclip.data.corpora.yfacc import read
from s3prl_speechclip.errors import CorpusError

IMAGES = {"train": ["11_aa", "22_bb"], "dev": ["33_cc"], "test": ["44_dd"]}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "Flickr8k_text").mkdir()
    for split, names in IMAGES.items():
        folder = tmp_path / f"flickr_audio_yoruba_{split}"
        lines = []
        for name in names:
            image = tmp_path / "Flicker8k_Dataset" / f"{name}.jpg"
            write_files(image, folder / f"S001_{name}_3.wav", rate=48_000)
            lines.append(f"{name}.jpg#3\tAjá kan ń sáré {name}\n")
        path = tmp_path / "Flickr8k_text" / f"Flickr8k.token.{split}_yoruba.txt"
        path.write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_published_layout_is_read(corpus: Path) -> None:
    """Fault: a recording of another split or caption, or Yoruba taken for English."""
    manifest = read(corpus)
    assert {s: len(manifest.split(s)) for s in IMAGES} == {"train": 2, "dev": 1, "test": 1}
    first = manifest.utterances[0]
    assert first.audio == "flickr_audio_yoruba_train/S001_11_aa_3.wav"
    assert first.image == "Flicker8k_Dataset/11_aa.jpg"
    assert (first.text, first.language, first.speaker) == ("Ajá kan ń sáré 11_aa", "yo", "S001")
    assert first.english == ""
    assert len({u.pair_id for u in manifest.utterances}) == 4


def test_english_captions_come_from_flickr8k(corpus: Path) -> None:
    """Fault: the English caption of another number."""
    text = "11_aa.jpg#2\tA cat .\n11_aa.jpg#3\tA dog runs .\n"
    (corpus / "Flickr8k.token.txt").write_text(text)
    captions = [u.english for u in read(corpus).utterances]
    assert captions == ["A dog runs .", "", "", ""]


@pytest.mark.parametrize(
    "name",
    [
        "Flickr8k_text/Flickr8k.token.dev_yoruba.txt",
        "flickr_audio_yoruba_test",
        "Flicker8k_Dataset",
    ],
)
def test_missing_part_is_named(corpus: Path, name: str) -> None:
    """Fault: the user must guess what is missing; or the error is in Flickr8k's name."""
    (corpus / name).rename(corpus / "elsewhere")
    with pytest.raises(CorpusError, match="^yfacc: ") as error:
        read(corpus)
    assert "\n" not in str(error.value)


def test_malformed_list_is_named(corpus: Path) -> None:
    """Fault: a traceback, or an error in Flickr8k's name."""
    (corpus / "Flickr8k_text" / "Flickr8k.token.dev_yoruba.txt").write_text("33_cc.jpg\n")
    with pytest.raises(CorpusError, match="^yfacc: '.*dev_yoruba.txt' must hold lines"):
        read(corpus)
