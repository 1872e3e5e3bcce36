"""Flickr8k in its published layout, whole and damaged."""

from pathlib import Path

import pytest
from small_corpus import write_files

from s3prl_speechclip.data.corpora.flickr8k import read
from s3prl_speechclip.data.manifest import Word
from s3prl_speechclip.errors import CorpusError

IMAGES = {"train": ["11_aa.jpg", "22_bb.jpg"], "dev": ["33_cc.jpg"], "test": ["44_dd.jpg"]}
WAVS = Path("flickr_audio/wavs")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    captions = ["22_bb.jpg.1#0\tIn the list of captions but of no split ."]
    speakers = []
    for split, names in IMAGES.items():
        listing = "".join(f"{name}\n" for name in names)
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text(listing)
        for name in names:
            wavs = [f"{Path(name).stem}_{k}.wav" for k in range(5)]
            write_files(tmp_path / "Images" / name, *(tmp_path / WAVS / wav for wav in wavs))
            captions += [f"{name}#{k}\tCaption {k} of {name} ." for k in range(5)]
            speakers += [f"{wav} {k + 7}" for k, wav in enumerate(wavs)]
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join(captions) + "\n")
    (tmp_path / "flickr_audio" / "wav2spk.txt").write_text("\n".join(speakers) + "\n")
    return tmp_path


def test_whole_corpus_is_read(corpus: Path) -> None:
    """Fault: a caption is lost, or paired with another recording; two images are one answer."""
    manifest = read(corpus)
    assert {s: len(manifest.split(s)) for s in IMAGES} == {"train": 10, "dev": 5, "test": 5}
    assert manifest.notes == ()
    assert manifest.corpus == "flickr8k"
    assert all(manifest.path(u.audio).is_file() for u in manifest.utterances)
    assert all(manifest.path(u.image).is_file() for u in manifest.utterances)
    for place, utterance in enumerate(manifest.utterances):
        name, _, k = utterance.utterance_id.rpartition("_")
        assert utterance.text == utterance.caption == f"Caption {k} of {name}.jpg ."
        assert utterance.speaker == str(int(k) + 7)
        assert utterance.audio == f"flickr_audio/wavs/{name}_{k}.wav"
        assert utterance.image == f"Images/{name}.jpg"
        assert utterance.pair_id == place // 5


@pytest.mark.parametrize("key", ["11_aa.jpg_#2", "11_aa_2"])
@pytest.mark.parametrize("place", ["flickr_audio/flickr_8k.ctm", "Flickr_8k.ctm"])
def test_alignments_fill_words(corpus: Path, key: str, place: str) -> None:
    """Fault: word times are durations, or of another recording."""
    (corpus / place).write_text(f"{key} 1 0.50 0.25 DOG\n{key} 1 0.10 0.30 A\n")
    spoken = {u.utterance_id: u.words for u in read(corpus).utterances if u.words}
    assert spoken == {"11_aa_2": (Word("a", 0.1, 0.4), Word("dog", 0.5, 0.75))}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("Flickr_8k.ctm", "11_aa.jpg_#2 1 zero 0.25 DOG\n", "Flickr_8k.ctm' must hold lines"),
        ("flickr_audio/wav2capt.txt", "<html> not found\n", "wav2capt.txt' must hold lines"),
        ("flickr_audio/wav2spk.txt", "11_aa_2.wav\n", "wav2spk.txt' must hold lines"),
        ("Flickr_8k.testImages.txt", "55_ee.jpg\n", "lists '55_ee.jpg', which has no caption"),
        ("Flickr_8k.devImages.txt", "\n", "no usable recording in split 'dev'"),
    ],
)
def test_malformed_list_is_named(corpus: Path, file: str, content: str, reason: str) -> None:
    """Fault: a traceback for a damaged line, or validation on nothing."""
    (corpus / file).write_text(content)
    with pytest.raises(CorpusError, match=reason):
        read(corpus)


def test_missing_image_takes_its_recordings_along(corpus: Path) -> None:
    """Fault: recordings of an image that is not there are kept, or it is counted five times."""
    (corpus / "Images" / "11_aa.jpg").unlink()
    with pytest.raises(CorpusError, match="1 missing images .*11_aa.jpg"):
        read(corpus)
    manifest = read(corpus, skip_broken=True)
    assert len(manifest.split("train")) == 5
    assert "5 of 20 recordings left out: 1 missing images" in manifest.notes[0]


def test_caption_that_was_not_recorded_is_not_missing(corpus: Path) -> None:
    """Fault: what the corpus itself says was never recorded stops a run."""
    wavs = sorted(path.name for path in (corpus / WAVS).iterdir() if path.stem != "33_cc_1")
    listing = "".join(f"{wav} {wav[:-6]}.jpg #{wav[-5]}\n" for wav in wavs)
    (corpus / "flickr_audio" / "wav2capt.txt").write_text(listing)
    (corpus / WAVS / "33_cc_1.wav").unlink()
    manifest = read(corpus)
    assert len(manifest.utterances) == 19
    assert "1 captions without a recording" in manifest.notes[0]


@pytest.mark.parametrize(
    "name",
    ["Flickr_8k.devImages.txt", "Flickr8k.token.txt", "Images", "flickr_audio/wavs"],
)
def test_missing_part_is_named(corpus: Path, name: str) -> None:
    """Fault: the user must guess which of five downloads is missing, or where it goes."""
    (corpus / name).rename(corpus / "elsewhere")
    with pytest.raises(CorpusError) as error:
        read(corpus)
    assert str(corpus / name) in str(error.value)
    assert "--data-root DIR" in str(error.value)
    assert "\n" not in str(error.value)


# --- text files as editors and copies leave them ---


def test_image_listed_twice_counts_once(corpus: Path) -> None:
    """Fault: a repeated line doubles recordings, each with the id of another."""
    with (corpus / "Flickr_8k.trainImages.txt").open("a") as listing:
        listing.write("11_aa.jpg\n")
    manifest = read(corpus)
    names = [u.utterance_id for u in manifest.utterances]
    assert len(names) == len(set(names)) == 20
    assert manifest.notes == ("5 recordings are listed twice and count once",)


@pytest.mark.parametrize("skip_broken", [False, True])
def test_image_of_two_splits_is_refused(corpus: Path, skip_broken: bool) -> None:
    """Fault: a model is tested on what it was trained on."""
    with (corpus / "Flickr_8k.testImages.txt").open("a") as listing:
        listing.write("22_bb.jpg\n")
    with pytest.raises(CorpusError, match="1 images are in both 'train' and 'test' .*22_bb.jpg"):
        read(corpus, skip_broken)


# --- layouts as people have them ---


@pytest.mark.parametrize(
    "folder",
    [
        "Images/Flicker8k_Dataset",
        "Flickr8k_Dataset",
        "Flicker8k_Dataset",
        "Flickr8k_Dataset/Flicker8k_Dataset",
        "images",
    ],
)
def test_images_are_found_where_archives_put_them(corpus: Path, folder: str) -> None:
    """Fault: a folder that the authors' own script makes is not found."""
    (corpus / "Images").rename(corpus / "elsewhere")
    (corpus / folder).parent.mkdir(exist_ok=True)
    (corpus / "elsewhere").rename(corpus / folder)
    (corpus / "Flickr8k_text").mkdir()
    for path in corpus.glob("*.txt"):
        path.rename(corpus / "Flickr8k_text" / path.name)
    (corpus / "flickr_audio" / "wav2spk.txt").unlink()
    manifest = read(corpus)
    assert {u.image.rpartition("/")[0] for u in manifest.utterances} == {folder}
    assert len(manifest.utterances) == 20


def test_captions_of_kaggle_are_read(corpus: Path) -> None:
    """Fault: captions of the copy that most people have must be rewritten by hand."""
    rows = ["image,caption"]
    for line in (corpus / "Flickr8k.token.txt").read_text().splitlines():
        key, text = line.split("\t")
        quoted = text.replace('"', '""')
        rows.append(f'{key.partition("#")[0]},"{quoted}"')
    expected = read(corpus)
    (corpus / "Flickr8k.token.txt").unlink()
    (corpus / "captions.txt").write_text("\n".join(rows) + "\n")
    assert read(corpus) == expected
    (corpus / "captions.txt").write_text("image,caption\n11_aa.jpg,A dog, running .\n")
    with pytest.raises(CorpusError, match=r"captions.txt', line 2, has too many cells"):
        read(corpus)
