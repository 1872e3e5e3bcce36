"""SpokenCOCO in its published layout, whole and damaged."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from small_corpus import write_files

from s3prl_speechclip.data.corpora.spokencoco import read
from s3prl_speechclip.errors import CorpusError

NUMBERS = {"train": [9, 25], "val": [42], "test": [73]}


def write_entry(root: Path, name: str, number: int, **changes: object) -> dict:
    """Write an image and two recordings of it, and return its entry."""
    folder = "train2014" if name == "train" else "val2014"
    image = f"{folder}/COCO_{folder}_{number:012d}.jpg"
    captions = []
    for k in range(2):
        uttid = f"m0spk{k}-XYZ_{number}_{100 * number + k}"
        wav = f"wavs/{name}/0/{uttid}.wav"
        write_files(root / "mscoco_img" / image, root / "SpokenCOCO" / wav)
        captions.append(
            {"text": f"CAPTION {k}", "speaker": f"m0spk{k}", "uttid": uttid, "wav": wav}
        )
    return {"image": image, "captions": captions} | changes


def write_metadata(root: Path, infix: str, name: str, rows: list) -> None:
    path = root / "SpokenCOCO" / f"SpokenCOCO{infix}_{name}.json"
    path.write_text(json.dumps({"data": rows}))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    for name in ("train", "val"):
        rows = [write_entry(tmp_path, name, number) for number in NUMBERS[name]]
        write_metadata(tmp_path, "", name, rows)
    return tmp_path


@pytest.fixture
def karpathy(published: Path) -> Path:
    reassigned = 1000
    for name, numbers in NUMBERS.items():
        rows = []
        for number in numbers:
            rows.append(write_entry(published, name, number, reassign_id=reassigned))
            reassigned += 1
        write_metadata(published, "_ksplit", name, rows)
    return published


def test_published_splits_are_read(published: Path) -> None:
    """Fault: a recording is lost, has another's speaker or text; figures on val pass for test."""
    manifest = read(published)
    assert {s: len(manifest.split(s)) for s in ("train", "dev")} == {"train": 4, "dev": 2}
    assert all(manifest.path(u.audio).is_file() for u in manifest.utterances)
    assert all(manifest.path(u.image).is_file() for u in manifest.utterances)
    first, second = manifest.split("dev")
    assert (first.utterance_id, first.speaker) == ("m0spk0-XYZ_42_4200", "m0spk0")
    assert (second.text, second.caption) == ("CAPTION 1", "CAPTION 1")
    assert first.audio == "SpokenCOCO/wavs/val/0/m0spk0-XYZ_42_4200.wav"
    assert first.image == "mscoco_img/val2014/COCO_val2014_000000000042.jpg"
    assert [u.pair_id for u in manifest.utterances] == [9, 9, 25, 25, 42, 42]
    assert manifest.test_splits == ("dev",)
    assert any("val.json serves as dev and as test" in note for note in manifest.notes)


def test_karpathy_splits_win(karpathy: Path) -> None:
    """Fault: figures on other images than the papers'."""
    manifest = read(karpathy)
    assert {s: len(manifest.split(s)) for s in ("train", "dev", "test")} == {
        "train": 4,
        "dev": 2,
        "test": 2,
    }
    assert manifest.test_splits == ("test",)
    assert manifest.notes == ()
    assert sorted({u.pair_id for u in manifest.utterances}) == [1000, 1001, 1002, 1003]


def test_incomplete_karpathy_splits_are_an_error(karpathy: Path) -> None:
    """Fault: train of one partition is mixed with val of the other, which overlap."""
    (karpathy / "SpokenCOCO" / "SpokenCOCO_ksplit_test.json").unlink()
    with pytest.raises(CorpusError, match="no file '.*SpokenCOCO_ksplit_test.json'"):
        read(karpathy)


def test_partly_reassigned_ids_are_an_error(karpathy: Path) -> None:
    """Fault: a COCO number equals another image's reassigned one, and two images become one."""
    rows = [write_entry(karpathy, "train", 9, reassign_id=1), write_entry(karpathy, "train", 25)]
    write_metadata(karpathy, "_ksplit", "train", rows)
    with pytest.raises(CorpusError, match="1 of 2 entries .* have a 'reassign_id'"):
        read(karpathy)


def test_ids_that_begin_anew_in_each_split_are_no_overlap(karpathy: Path) -> None:
    """Fault: identities of two splits that both count from 0 are taken for shared images."""
    for name, numbers in NUMBERS.items():
        rows = [write_entry(karpathy, name, n, reassign_id=i) for i, n in enumerate(numbers)]
        write_metadata(karpathy, "_ksplit", name, rows)
    assert len(read(karpathy).utterances) == 8


def test_null_is_no_text(published: Path) -> None:
    """Fault: JSON's null becomes the caption 'None'."""
    row = write_entry(published, "val", 42)
    row["captions"][0] |= {"text": None, "speaker": None}
    write_metadata(published, "", "val", [row])
    first = read(published).split("dev")[0]
    assert (first.text, first.caption, first.speaker) == ("", "", "")


@pytest.mark.parametrize(
    "name", ["SpokenCOCO/SpokenCOCO_train.json", "SpokenCOCO/SpokenCOCO_val.json", "mscoco_img"]
)
def test_missing_part_is_named(published: Path, name: str) -> None:
    """Fault: the user must guess what is missing, or where it goes."""
    (published / name).rename(published / "elsewhere")
    with pytest.raises(CorpusError) as error:
        read(published)
    assert str(published / name) in str(error.value)
    assert "--data-root DIR" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_are_named_or_counted(published: Path, caplog) -> None:
    """Fault: a missing recording or image is skipped in silence."""
    (published / "SpokenCOCO/wavs/train/0/m0spk1-XYZ_9_901.wav").unlink()
    (published / "mscoco_img/train2014/COCO_train2014_000000000025.jpg").unlink()
    with pytest.raises(CorpusError, match="1 missing recordings .*_901.wav.*1 missing images"):
        read(published)
    with caplog.at_level(logging.WARNING):
        manifest = read(published, skip_broken=True)
    assert [u.utterance_id for u in manifest.split("train")] == ["m0spk0-XYZ_9_900"]
    assert "3 of 6 recordings left out" in manifest.notes[0]
    assert "3 of 6 recordings left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot read"),
        ("[]", "must hold a list 'data'"),
        ('{"data": []}', "holds no entries"),
        ('{"data": [{"captions": []}]}', "has no 'image'"),
        ('{"data": [{"image": "a_1.jpg"}]}', "has no 'captions'"),
        ('{"data": [{"image": "a_1.jpg", "captions": [{}]}]}', "has no 'wav'"),
        ('{"data": [{"image": "a_b.jpg", "captions": []}]}', "has no number"),
        ('{"data": [{"image": null, "captions": []}]}', "has no 'image'"),
        ('{"data": [{"image": "a_1.jpg", "captions": null}]}', "has no 'captions'"),
        ('{"data": [{"image": "a_1.jpg", "captions": [null]}]}', "has no 'wav'"),
    ],
)
def test_malformed_metadata_is_named(published: Path, content: str, reason: str) -> None:
    """Fault: a traceback for a half-downloaded or foreign file."""
    path = published / "SpokenCOCO" / "SpokenCOCO_val.json"
    path.write_text(content)
    with pytest.raises(CorpusError, match=reason) as error:
        read(published)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unrolled", [False, True])
def test_forms_of_fast_vgs_are_read(karpathy: Path, unrolled: bool) -> None:
    """Fault: the Karpathy split in its most common form is not found."""
    expected = [replace(u, pair_id=0) for u in read(karpathy).utterances]
    for name in NUMBERS:
        path = karpathy / "SpokenCOCO" / f"SpokenCOCO_ksplit_{name}.json"
        rows = json.loads(path.read_text())["data"]
        path.unlink()
        for row in rows:
            del row["reassign_id"]
        if unrolled:
            rows = [{"image": r["image"], "caption": c} for r in rows for c in r["captions"]]
        content = json.dumps({"data": rows})
        form = "unrolled_karpathy" if unrolled else "karpathy"
        (karpathy / "SpokenCOCO" / f"SpokenCOCO_{name}_{form}.json").write_text(content)
    manifest = read(karpathy)
    assert [replace(u, pair_id=0) for u in manifest.utterances] == expected
    assert manifest.test_splits == ("test",)
    assert len({(u.image, u.pair_id) for u in manifest.utterances}) == 4
