"""The manifest's file: what is written is read, and a damaged row is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s3prl_speechclip.data.manifest import Manifest, Utterance, Word
from s3prl_speechclip.errors import CorpusError

UTTERANCE = Utterance(
    utterance_id="a",
    audio="a.wav",
    image="a.png",
    pair_id=3,
    text="zwei Zeilen\u2028und\u0085drei",
    split="train",
    language="de",
    duration=1.5,
    words=(Word("zwei", 0.1, 0.4),),
)


def manifest(root: Path, *utterances: Utterance) -> Manifest:
    return Manifest(corpus="made", root=root, utterances=utterances, notes=("a note",))


def row(**changes: object) -> str:
    known = {"utterance_id": "a", "audio": "a.wav", "image": "a.png", "pair_id": 0, "text": ""}
    return json.dumps(known | {"split": "train"} | changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Fault: a line separator of Unicode in a caption splits its row."""
    made = manifest(tmp_path, UTTERANCE, replace(UTTERANCE, utterance_id="b", words=()))
    made.save(tmp_path / "manifest.jsonl")
    assert Manifest.load(tmp_path / "manifest.jsonl") == made


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "expected an object"),
        ("[" * 100_000, "maximum recursion depth"),
        (row(audio=None), "'audio' is missing"),
        (row(image=""), "'image' is empty"),
        (row(split=7), "'split' is 7, of the wrong type"),
        (row(pair_id="7"), "'pair_id' is \"7\", of the wrong type"),
        (row(pair_id=True), "'pair_id' is true, of the wrong type"),
        (row(duration="long"), "'duration' is \"long\""),
        (row(langauge="de"), "unknown field 'langauge'; did you mean 'language'"),
        (row(words=[["a", 0.1]]), "'words' must be lists of text, start and end"),
        (row(words="a"), "'words' is \"a\""),
    ],
)
def test_damaged_row_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """Fault: a traceback, or null read as a caption 'None'."""
    path = tmp_path / "manifest.jsonl"
    manifest(tmp_path, UTTERANCE).save(path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CorpusError, match="line 3") as error:
        Manifest.load(path)
    assert reason in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_null_is_absent(tmp_path: Path) -> None:
    """Fault: null becomes the speaker 'None'."""
    path = tmp_path / "manifest.jsonl"
    manifest(tmp_path).save(path)
    with path.open("a") as file:
        file.write(row(speaker=None, language=None) + "\n")
    (read,) = Manifest.load(path).utterances
    assert (read.speaker, read.language) == ("", "en")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', "not JSON", '{"format": 99}'])
def test_other_file_is_no_manifest(tmp_path: Path, content: str) -> None:
    """Fault: a traceback for a file of that name that something else wrote."""
    path = tmp_path / "manifest.jsonl"
    path.write_text(content)
    with pytest.raises(CorpusError, match=r"manifest") as error:
        Manifest.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("role", "splits"), [("validation", {"dev_splits": ()}), ("testing", {"test_splits": ()})]
)
def test_corpus_to_train_on_beside_another_is_refused_alone(tmp_path, role, splits) -> None:
    """Fault: a run on such a corpus trains, and then ends in a division by zero."""
    whole = manifest(tmp_path, UTTERANCE)
    assert whole.require(role) is whole
    with pytest.raises(CorpusError, match=f"no split for {role}.*data.also=\\[made\\]"):
        replace(whole, **splits).require(role)


def test_every_kind_of_english_is_trained_on(tmp_path: Path) -> None:
    """Guards against codes with an underscore or in capitals, which benchmarks count as English."""
    codes = ("en", "en-GB", "en_US", "EN", "fr", "enm")
    rows = [json.loads(row(utterance_id=code, language=code)) for code in codes]
    made = manifest(tmp_path, *(Utterance(**values) for values in rows))
    kept = [utterance.language for utterance in made.train_on(["en"]).utterances]
    assert kept == ["en", "en-GB", "en_US", "EN"]
    assert made.train_on(["EN_gb"]).utterances == made.train_on(["en"]).utterances
    assert [u.language for u in made.utterances if u.spoken_language == "en"] == kept
