"""A folder of one's own: any form of manifest is read, and what is wrong with it is named."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_corpus import SMALL, write_files, write_flickr8k

from s3prl_speechclip.data.__main__ import main as check_command
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.data.manifest import Word
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.pretrain.config import resolve_config
from s3prl_speechclip.pretrain.corpus import load_manifest

RATE = 16_000  # Hz
FORMS = ("jsonl", "csv", "tsv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my data"


def rows(splits: str = "train train dev test", captions: int = 2) -> list[dict]:
    """Rows of one image a split, with some recordings each."""
    return [
        {
            "audio": f"sounds/{number}/{k}.wav",
            "image": f"pictures/{number}.png",
            "split": split,
            "text": f'caption {k} of "{number}", said',
            "language": "yo",
            "speaker": f"s{k}",
            "duration": 0.25,
            "words": [["caption", 0.0, 0.1]],
        }
        for number, split in enumerate(splits.split())
        for k in range(captions)
    ]


def write(folder: Path, rows: list[dict], form: str = "jsonl") -> Path:
    """Write a manifest, and the files that it names."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        names = [row[field] for field in ("image", "audio") if row.get(field)]
        write_files(*(folder / name for name in names), seconds=0.25)
    return write_manifest(folder, rows, form)


def write_manifest(folder: Path, rows: list[dict], form: str = "jsonl") -> Path:
    path = folder / f"manifest.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        quoting = csv.QUOTE_NONE if form == "tsv" else csv.QUOTE_MINIMAL
        delimiter = "\t" if form == "tsv" else ","
        table = csv.writer(
            file, delimiter=delimiter, quoting=quoting, quotechar=None if form == "tsv" else '"'
        )
        table.writerow(names)
        for row in rows:
            cells = [row.get(name, "") for name in names]
            table.writerow(
                ["" if c is None else c if isinstance(c, str) else json.dumps(c) for c in cells]
            )
    return path


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_manifest(folder: Path, form: str) -> None:
    """Fault: a table's numbers, lists or quotation marks are read as other values."""
    write(folder, rows(), form)
    manifest = load_corpus(str(folder))
    assert manifest.corpus == "own (my data)"
    assert {s: len(manifest.split(s)) for s in ("train", "dev", "test")} == {
        "train": 4,
        "dev": 2,
        "test": 2,
    }
    first = manifest.utterances[0]
    assert first.utterance_id == "sounds/0/0"
    assert first.text == 'caption 0 of "0", said'
    assert (first.language, first.speaker, first.duration) == ("yo", "s0", 0.25)
    assert first.words == (Word("caption", 0.0, 0.1),)
    assert [u.pair_id for u in manifest.utterances] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert manifest.path(first.audio).is_file()
    assert manifest.notes == ()


def test_a_run_trains_on_several_corpora(folder: Path, tmp_path: Path) -> None:
    """Fault: an added corpus is left out, measured, or takes pictures of the first for its own."""
    write(folder, rows())
    write(tmp_path / "other", rows("train test", captions=3))
    data = {"corpus": str(folder), "also": [str(tmp_path / "other")]}
    manifest = load_manifest(resolve_config("speechclip_parallel", "mini", data=data))
    train = manifest.split("train")
    assert [u.pair_id for u in train] == [0, 0, 1, 1, *[4] * 3]
    assert len({u.utterance_id for u in train}) == 7
    assert all(manifest.path(path).is_file() for u in train for path in (u.audio, u.image))
    assert (len(manifest.split("dev")), len(manifest.split("test"))) == (2, 2)


@pytest.mark.parametrize("form", FORMS)
def test_audio_and_image_suffice(folder: Path, form: str) -> None:
    """Fault: a user must write fields that are not known."""
    write(folder, [{"audio": r["audio"], "image": r["image"]} for r in rows("a " * 40)], form)
    manifest = load_corpus("own", folder)
    assert len(manifest.utterances) == 80
    assert {(u.text, u.language, u.speaker) for u in manifest.utterances} == {("", "en", "")}
    assert any("no row has a split" in note for note in manifest.notes)


def test_drawn_splits_depend_on_paths_as_they_are_written(folder: Path, tmp_path: Path) -> None:
    """Fault: a release that writes paths in another way, or a link to the folder, draws another
    split, and a model is tested on what it was trained on."""
    given = [{"audio": r["audio"], "image": r["image"]} for r in rows("a " * 30)]
    write(folder, given)
    link = tmp_path / "link"
    link.symlink_to(folder)
    for way in ("./{}", f"{folder}/{{}}"):
        written = [row | {"image": way.format(row["image"])} for row in given]
        write_manifest(folder, written)
        drawn = {}
        for row in written:
            first = hashlib.sha256(row["image"].encode()).digest()[:8]
            drawn[row["audio"]] = {0: "test", 1: "dev"}.get(
                int.from_bytes(first, "big") % 10, "train"
            )
        for root in (folder, link):
            found = load_corpus("own", root).utterances
            assert {u.audio: u.split for u in found} == drawn
            assert len({u.image for u in found}) == 30 and found[0].image == "pictures/0.png"


def test_drawn_splits_depend_on_the_image_alone(folder: Path) -> None:
    """Fault: new rows move images from test to train; captions of an image are torn apart."""
    given = [{"audio": r["audio"], "image": r["image"]} for r in rows("a " * 100)]
    write(folder, given)
    first = {u.audio: (u.image, u.split) for u in load_corpus("own", folder).utterances}
    write_manifest(folder, given[: 2 * 30])
    second = {u.audio: (u.image, u.split) for u in load_corpus("own", folder).utterances}
    assert second.items() <= first.items()
    assert len(set(first.values())) == 100
    counts = [sum(s == split for _, s in set(first.values())) for split in ("dev", "test")]
    # Ten of 100 images are expected, with a standard deviation of 3.
    assert all(1 <= count <= 19 for count in counts)


def test_absolute_paths_are_followed(folder: Path, tmp_path: Path) -> None:
    """Fault: files outside the folder must be copied."""
    given = rows()
    write(tmp_path / "elsewhere", given)
    for row in given:
        row["audio"] = str(tmp_path / "elsewhere" / row["audio"])
        row["image"] = str(tmp_path / "elsewhere" / row["image"])
    folder.mkdir()
    write_manifest(folder, given)
    assert len(load_corpus(str(folder)).utterances) == 8


@pytest.mark.parametrize(
    ("given", "split"),
    [("val", "dev"), ("validation", "dev"), ("valid_seen", "dev_seen"), ("test-b", "test-b")],
)
def test_names_of_splits_are_understood(folder: Path, given: str, split: str) -> None:
    """Fault: a corpus whose validation split has another name has none."""
    write(folder, rows(f"train {given}"))
    manifest = load_corpus(str(folder))
    assert split in (*manifest.dev_splits, *manifest.test_splits)
    assert len(manifest.split(split)) == 2


def test_pair_ids_join_images(folder: Path) -> None:
    """Fault: pictures of one thing are negatives of each other."""
    given = [row | {"pair_id": 7 + number // 4} for number, row in enumerate(rows("train " * 4))]
    write(folder, given, "csv")
    assert [u.pair_id for u in load_corpus(str(folder)).utterances] == [7] * 4 + [8] * 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"audio": None}, "'audio' is missing"),
        ({"image": None}, "'image' is missing"),
        ({"split": None}, "'split' is missing, which other rows have"),
        ({"split": "holdout"}, "'split' is 'holdout'; expected train, dev or test"),
        ({"duration": "long"}, "'duration' is"),
        ({"words": "a b"}, "'words' is"),
        ({"words": [["a", 1]]}, "'words' must be lists of text, start and end"),
        ({"words": [["a", 0.2, 0.1]]}, "'words' has 'a' from 0.2 to 0.1; expected seconds"),
        ({"words": [["a", -0.1, 0.1]]}, "'words' has 'a' from -0.1"),
        ({"words": [["a", 0.0, math.nan]]}, "'words' has 'a' from 0.0 to nan"),
        ({"words": [["a", 10, 150]]}, "'words' has 'a' from 10.0 s on, in a recording of 0.25 s"),
        ({"words": [[None, 0.0, 0.1]]}, "'words' has null in place of a word"),
        ({"duration": math.inf}, "'duration' is inf"),
        ({"duration": -1.0}, "'duration' is -1.0"),
        ({"language": "english"}, "'language' is 'english', no ISO 639 code"),
        ({"audio": "sounds/0/0.wav"}, "the recording of line"),
    ],
)
def test_row_that_cannot_be_used_is_named(folder, form, change, reason) -> None:
    """Fault: a traceback, or a row that is dropped in silence."""
    given = rows()
    path = write(folder, [*given[:2], given[2] | change, *given[3:]], form)
    line = 3 if form == "jsonl" else 4
    with pytest.raises(CorpusError) as error:
        load_corpus(str(folder))
    message = str(error.value)
    assert message.startswith(
        f"own: 1 rows of '{path}' cannot be used (first line {line}: {reason}"
    )
    assert "--skip-broken" in message and "\n" not in message
    manifest = load_corpus(str(folder), skip_broken=True)
    assert len(manifest.utterances) == 7
    assert f"line {line}: {reason}" in manifest.notes[-1]


def test_a_path_that_is_no_text_is_named(folder: Path) -> None:
    """Fault: the number 5 is the file '5'."""
    first, *others = rows()
    write(folder, [first, *others])
    write_manifest(folder, [first | {"audio": 5}, *others])
    with pytest.raises(CorpusError, match="line 1: 'audio' is 5, of the wrong type"):
        load_corpus(str(folder))


def test_half_a_character_is_named(folder: Path, capsys) -> None:
    """Fault: a text that JSON can write and UTF-8 cannot ends in a traceback when it is shown."""
    write(folder, rows())
    with (folder / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"audio": "a\\ud83d.wav", "image": "b.png", "split": "train"}\n')
    assert check_command(["check", str(folder)]) == 2
    assert "line 9: 'utterance_id' holds half a character ('a\\ud83d')" in capsys.readouterr().out


def test_two_ways_to_write_a_path_are_one(folder: Path) -> None:
    """Fault: one picture is two answers, and each the other's negative in training."""
    given = rows(captions=3)
    write(folder, given)
    ways = ("{}", "./{}", f"{folder}/x/../{{}}")
    for number, row in enumerate(given):
        row["image"] = ways[number % 3].format(row["image"])
    write_manifest(folder, given)
    manifest = load_corpus(str(folder))
    assert [u.pair_id for u in manifest.utterances] == [n // 3 for n in range(12)]
    assert len({u.image for u in manifest.utterances}) == 4


def test_an_image_with_several_pair_ids_is_refused(folder: Path) -> None:
    """Fault: numbers of rows in place of pictures make recordings of one picture negatives."""
    write(folder, [row | {"pair_id": number} for number, row in enumerate(rows())])
    with pytest.raises(CorpusError, match="4 rows .*line 2: the image of line 1 has another pair"):
        load_corpus(str(folder))
    three = [{**rows()[0], "audio": f"sounds/{n}.wav", "pair_id": n} for n in range(3)]
    write(folder, [*three, *rows("dev test")[2:]])
    write_manifest(folder, [*three, {**rows("dev test")[2], "pair_id": 9}])
    with pytest.raises(CorpusError, match="2 rows"):
        load_corpus(str(folder))
    kept = load_corpus(str(folder), skip_broken=True).split("train")
    assert [u.pair_id for u in kept] == [0]
    write(folder, [row | {"pair_id": 2**63} for row in rows()])
    with pytest.raises(CorpusError, match="'pair_id' is 9223372036854775808, beyond 64 bits"):
        load_corpus(str(folder))


def test_an_image_may_have_a_pair_id_in_each_split(folder: Path) -> None:
    """Fault: published sets, whose ids count from 0 in each, are refused."""
    first, second = rows("test_1k test_5k", captions=1)
    write(folder, [first | {"pair_id": 0}, second | {"pair_id": 7, "image": first["image"]}])
    manifest = load_corpus(str(folder))
    assert [u.pair_id for u in manifest.utterances] == [0, 7]


def test_times_may_be_rounded(folder: Path) -> None:
    """Fault: an aligner's rounding, or a duration in whole seconds, costs a corpus."""
    words = [["a", -0.0001, 0.1], ["dog", 0.5, 0.4999], ["ran", 3.1, 3.4]]
    write(folder, [row | {"words": words, "duration": 3} for row in rows()])
    assert load_corpus(str(folder)).utterances[0].words == (
        Word("a", 0.0, 0.1),
        Word("dog", 0.5, 0.5),
        Word("ran", 3.1, 3.4),
    )


def test_languages_are_told_apart_without_case(folder: Path) -> None:
    """Fault: FR and fr are two languages, or fr_ca and fr-CA."""
    given = rows()
    ways = ("FR", "fr", "fr-CA", "FR_ca", "EN_us", "zh-hant-tw", "", "yo")
    for row, language in zip(given, ways, strict=True):
        row["language"] = language
    write(folder, given)
    found = [u.language for u in load_corpus(str(folder)).utterances]
    assert found == ["fr", "fr", "fr-CA", "fr-CA", "en-US", "zh-Hant-TW", "en", "yo"]


@pytest.mark.parametrize(
    ("form", "content", "reason"),
    [
        ("jsonl", "", "holds no rows"),
        ("jsonl", "audio,image\n", "line 1: Expecting value"),
        ("csv", "", "no column audio, image"),
        ("csv", "audio,image\n", "holds no rows"),
        ("csv", "wav,jpg\na,b\n", "no column audio, image"),
        ("csv", "audio\timage\na.wav\tb.png\n", "no column audio, image"),
        ("csv", "audio,image,text\na.wav,b.png,one, two\n", "line 2, has too many cells"),
        ("csv", "audio,image\na.wav\n", "line 2, has too few cells"),
        ("csv", "audio,image,text,text\na.wav,b.png,one,two\n", "has two columns text"),
        ("csv", "audio,image,langauge\na.wav,b.png,de\n", "did you mean 'language'"),
        ("tsv", "audio\timage\na.wav\n", "line 2, has too few cells"),
    ],
)
def test_malformed_manifest_is_named(folder: Path, form: str, content: str, reason: str) -> None:
    """Fault: a traceback for a file of another form."""
    folder.mkdir()
    path = folder / f"manifest.{form}"
    path.write_text(content)
    with pytest.raises(CorpusError) as error:
        load_corpus(str(folder))
    assert reason in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_without_a_manifest_is_named(folder: Path) -> None:
    """Fault: the user must guess the name of the manifest, or its fields."""
    folder.mkdir()
    with pytest.raises(CorpusError, match=r"no file .*manifest.csv.*fields audio and image"):
        load_corpus(str(folder))
    with pytest.raises(CorpusError, match="no folder '.*nowhere'"):
        load_corpus(str(folder / "nowhere"))
    with pytest.raises(CorpusError, match="leave --data-root out"):
        load_corpus(str(folder), root=folder)


def test_two_manifests_are_refused(folder: Path) -> None:
    """Fault: the older of two manifests is read without a word."""
    write(folder, rows(), "csv")
    write_manifest(folder, rows(), "tsv")
    with pytest.raises(CorpusError, match=r"holds manifest.csv and manifest.tsv; keep one"):
        load_corpus(str(folder))


def test_missing_file_is_named_or_left_out(folder: Path) -> None:
    """Fault: a row without its recording ends a run in the middle."""
    write(folder, rows())
    (folder / "sounds/0/1.wav").unlink()
    with pytest.raises(CorpusError, match="1 missing recordings .*sounds/0/1.wav"):
        load_corpus(str(folder))
    assert len(load_corpus(str(folder), skip_broken=True).utterances) == 7


def test_shared_images_of_splits_are_noted(folder: Path) -> None:
    """Fault: figures on images of the training split pass for figures on new ones."""
    given = rows()
    write(folder, [*given, given[0] | {"audio": "sounds/again.wav", "split": "test"}])
    assert "1 of 2 images of 'test' are in 'train' too" in load_corpus(str(folder)).notes


def test_corpus_without_training_can_be_tested_on(folder: Path) -> None:
    """Fault: a test set needs a training set to be measured."""
    write(folder, rows("test test"))
    manifest = load_corpus(str(folder)).require("testing")
    assert len(manifest.split("test")) == 4
    with pytest.raises(CorpusError, match="no split for validation"):
        manifest.require("validation")
    with pytest.raises(CorpusError, match="has no split 'train'"):
        manifest.split(manifest.train_split)


def test_exported_corpus_is_the_same(tmp_path: Path) -> None:
    """Fault: a corpus that is written as a manifest is another one."""
    corpus = write_flickr8k(tmp_path / "corpus")
    published = load_corpus("flickr8k", corpus)
    published.save(corpus / "manifest.jsonl")
    assert load_corpus(str(corpus)) == published


def test_check_describes_a_sound_folder(folder: Path, capsys) -> None:
    """Fault: counts or durations of other rows."""
    write(folder, [*rows(), rows()[0]], "csv")
    soundfile.write(folder / "sounds/3/1.wav", np.zeros((44_100, 2)), 44_100)
    assert check_command(["check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "9 recordings of 4 images" in out
    assert "1 rows repeat another's recording, and count once" in out
    assert "train: 5 recordings of 2 images, 0.00 h (0.25 to 0.25 s), yo, 2 speakers named" in out
    assert "test: 2 recordings of 1 images, 0.00 h (0.25 to 1.00 s)" in out
    assert "1 recordings are averaged to mono or resampled" in out


def test_check_names_the_first_broken_rows(folder: Path, capsys) -> None:
    """Fault: a check stops at the first fault, or passes over one."""
    given = rows("train " * 8)
    write(folder, [given[0] | {"split": "holdout"}, *given[1:]])
    for number in range(1, 6):
        (folder / f"sounds/{number}/0.wav").write_bytes(b"not a recording")
    (folder / "pictures/6.png").write_bytes(b"not an image")
    (folder / "pictures/7.png").unlink()
    (folder / "sounds/2/1.wav").unlink()
    assert check_command(["check", str(folder)]) == 2
    captured = capsys.readouterr()
    assert "11 rows cannot be used" in captured.out
    assert "  line 1: 'split' is 'holdout'" in captured.out
    assert "sounds/1/0.wav' cannot be decoded" in captured.out
    assert "and 1 more" in captured.out
    assert captured.err.strip().splitlines()[-1].startswith("error: 11 rows of")


def test_training_on_a_folder(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Fault: the corpus is read, and the run that was given its folder does not know it."""
    from s3prl_speechclip.cli.pretrain import main

    monkeypatch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path / "cache"))
    english = [row | {"language": "en"} for row in rows("train " * 4 + "dev dev test")]
    write(folder, english, "csv")
    steps = f"{SMALL},,runner.total_steps=2,,runner.eval_step=2"
    run = tmp_path / "run"
    assert main(["-g", "mini_scratch", "--data", str(folder), "-p", str(run), "-o", steps]) == 0
    assert list(run.rglob("model.safetensors"))


def test_example_of_the_documentation_is_sound(folder: Path, capsys) -> None:
    """Fault: the documented manifest is not one that is read."""
    page = Path(__file__).resolve().parents[2] / "docs" / "own-data.md"
    table = next(b for b in page.read_text().split("```\n") if b.startswith("audio,image"))
    write(folder, list(csv.DictReader(table.splitlines())), "csv")
    (folder / "manifest.csv").write_text(table)
    assert check_command(["check", str(folder)]) == 0
    assert "3 recordings of 3 images" in capsys.readouterr().out
    manifest = load_corpus(str(folder))
    assert [(u.split, u.text) for u in manifest.utterances] == [
        ("train", "a dog runs"),
        ("dev", "a cat sleeps"),
        ("test", ""),
    ]
