"""Places Audio Captions in the forms that it was published in, whole and damaged."""

import json
import logging
from pathlib import Path

import pytest
from small_corpus import write_files

from s3prl_speechclip.data.corpora.places import read
from s3prl_speechclip.errors import CorpusError

AUTHORS = "/data/authors/PlacesAudio_400k_distro"
AUTHORS_IMAGES = "/data/authors/vision/deeplearning/images256"


def entry(image: str, speaker: str = "A1") -> dict:
    return {
        "uttid": f"{speaker}-{image}",
        "speaker": speaker,
        "asr_text": f"the words of {image}",
        "wav": f"wavs/1/utt_{image}.wav",
        "image": f"{image[0]}/{image}.jpg",
    }


def write_set(
    root: Path,
    splits: dict[str, list[str]],
    audio_base: str = AUTHORS,
    image_base: str = AUTHORS_IMAGES,
    metadata: str = "metadata",
) -> None:
    """Write metadata and recordings of one set; images are written apart."""
    (root / metadata).mkdir(parents=True, exist_ok=True)
    for name, images in splits.items():
        content = {
            "image_base_path": image_base,
            "audio_base_path": audio_base,
            "data": [entry(image) for image in images],
        }
        (root / metadata / f"{name}.json").write_text(json.dumps(content))
        for image in images:
            write_files(root / entry(image)["wav"])


@pytest.fixture
def english(tmp_path: Path) -> Path:
    write_set(tmp_path, {"train": ["abbey", "beach"], "val": ["cave"]})
    for image in ("abbey", "beach", "cave"):
        write_files(tmp_path / "images" / f"{image[0]}/{image}.jpg")
    return tmp_path


def assert_files_exist(manifest) -> None:
    for utterance in manifest.utterances:
        assert manifest.path(utterance.audio).is_file(), utterance.audio
        assert manifest.path(utterance.image).is_file(), utterance.image


def test_published_set_is_read(english: Path) -> None:
    """Fault: the base paths of the authors' machine are taken at their word."""
    manifest = read(english)
    assert_files_exist(manifest)
    first = manifest.split("train")[0]
    assert first.audio == "wavs/1/utt_abbey.wav"
    assert first.image == "images/a/abbey.jpg"
    assert (first.utterance_id, first.speaker, first.language) == ("A1-abbey", "A1", "en")
    assert first.text == first.caption == "the words of abbey"
    assert [u.pair_id for u in manifest.utterances] == [0, 1, 2]
    assert (manifest.dev_splits, manifest.test_splits) == (("dev",), ("dev",))
    assert any("no test split: dev serves" in note for note in manifest.notes)


def test_splits_of_2020_replace_the_older(english: Path, caplog) -> None:
    """Fault: old train and new dev are used together, which overlap."""
    names = ("dev_seen_2020", "dev_unseen_2020", "test_seen_2020", "test_unseen_2020")
    write_set(english, {name: ["cave"] for name in names} | {"train_2020": ["abbey"]})
    with caplog.at_level(logging.WARNING):
        manifest = read(english)
    assert len(manifest.utterances) == 5
    assert manifest.dev_splits == ("dev_seen", "dev_unseen")
    assert manifest.test_splits == ("test_seen", "test_unseen")
    assert "train.json, val.json not used" in caplog.text
    assert any("train.json, val.json not used" in note for note in manifest.notes)


def test_edited_base_paths_are_followed(tmp_path: Path) -> None:
    """Fault: base paths that a user corrected, as the authors ask, are passed over."""
    pictures, sounds = tmp_path / "pictures", tmp_path / "sounds"
    root = tmp_path / "root"
    write_set(root, {"train": ["abbey"], "val": ["cave"]}, str(sounds), str(pictures))
    (root / "wavs").rename(tmp_path / "wavs")
    sounds.mkdir()
    (tmp_path / "wavs").rename(sounds / "wavs")
    for image in ("abbey", "cave"):
        write_files(pictures / f"{image[0]}/{image}.jpg")
    manifest = read(root)
    assert_files_exist(manifest)
    assert manifest.utterances[0].audio == f"{sounds}/wavs/1/utt_abbey.wav"


def test_tail_of_the_base_path_is_found_below_the_root(tmp_path: Path) -> None:
    """Fault: a copy of the authors' folders below the root is not recognised."""
    write_set(tmp_path, {"train": ["abbey"], "val": ["cave"]})
    for image in ("abbey", "cave"):
        write_files(tmp_path / "deeplearning" / "images256" / f"{image[0]}/{image}.jpg")
    manifest = read(tmp_path)
    assert_files_exist(manifest)
    assert manifest.utterances[0].image == "deeplearning/images256/a/abbey.jpg"


def test_a_set_in_a_folder_of_its_own_is_found(english: Path) -> None:
    """Fault: the folder that the archive unpacks to must be named, not the one above it."""
    expected = [u.utterance_id for u in read(english).utterances]
    inner = english / "PlacesAudio_400k_distro"
    inner.mkdir()
    for name in ("metadata", "wavs"):
        (english / name).rename(inner / name)
    manifest = read(english)
    assert_files_exist(manifest)
    assert [u.utterance_id for u in manifest.utterances] == expected


def test_shared_images_of_train_and_evaluation_are_counted(english: Path) -> None:
    """Fault: figures on images of the training split pass for figures on new ones."""
    write_set(english, {"val": ["abbey", "cave"]})
    assert "1 of 2 images of 'dev' are in 'train' too" in read(english).notes


def test_missing_recording_is_named_or_counted(english: Path) -> None:
    """Fault: a missing recording is skipped in silence."""
    (english / "wavs/1/utt_beach.wav").unlink()
    with pytest.raises(CorpusError, match="1 missing recordings .*utt_beach.wav.*--skip-broken"):
        read(english)
    manifest = read(english, skip_broken=True)
    assert len(manifest.split("train")) == 1
    assert "1 of 3 recordings left out" in manifest.notes[0]


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize(("folder", "what"), [("wavs", "recordings"), ("images", "images")])
def test_unknown_place_is_named(english: Path, folder: str, what: str, skip_broken: bool) -> None:
    """Fault: --skip-broken skips a whole corpus whose folder is elsewhere."""
    (english / folder).rename(english / "elsewhere")
    with pytest.raises(CorpusError, match=f"no {what} of '.*json' found: looked for") as error:
        read(english, skip_broken=skip_broken)
    assert "--data-root DIR" in str(error.value)
    assert "_base_path" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: (root / "metadata" / "train.json").unlink(), "no metadata .*--data-root DIR"),
        (lambda root: (root / "metadata" / "val.json").unlink(), "no metadata .*--data-root DIR"),
        (lambda root: write_set(root / "copy", {"train": ["abbey"]}), "are both train"),
    ],
)
def test_damaged_metadata_is_named(english: Path, damage, reason: str) -> None:
    """Fault: a traceback, training without validation, or on two copies of a set."""
    damage(english)
    with pytest.raises(CorpusError, match=reason):
        read(english)


def test_null_is_no_text(english: Path) -> None:
    """Fault: JSON's null becomes the caption, speaker or name 'None'."""
    row = entry("cave") | dict.fromkeys(("asr_text", "speaker", "uttid"))
    (english / "metadata" / "val.json").write_text(json.dumps({"data": [row]}))
    (found,) = read(english).split("dev")
    assert (found.text, found.caption, found.speaker) == ("", "", "")
    assert found.utterance_id == "utt_cave"
