"""Word discovery: labels, scores and patterns by hand, then the whole on a small corpus."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.formulas.keyword_scores import word_of
from s3prl_speechclip.benchmarks.formulas.word_scores import (
    PATTERNS,
    Recognised,
    label_by_attention,
    label_by_span,
    patterns,
    recognise,
    recognition,
    shuffled,
    spoken_word,
)
from s3prl_speechclip.benchmarks.words import (
    BENCHMARK,
    SEGMENTS,
    board_figures,
    related_tokens,
    with_alignments,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Manifest, Word
from s3prl_speechclip.encoders.vocabulary import encode
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.model.config import WordsConfig
from s3prl_speechclip.results import read_result


def token(text: str) -> int:
    (found,) = encode(text)
    return found


def test_labels_by_span_and_by_attention() -> None:
    """Guards which keyword names a word: the longest shared time, the most attention inside it."""
    word = Word("dog", 0.04, 0.1)
    assert label_by_span(word, [(0.0, 0.05), (0.05, 0.2)], (7, 8)) == 8
    assert label_by_span(word, [(0.2, 0.3)], (7,)) is None
    attention = np.array([[0.9, 0.0, 0.1, 0.1, 0.1], [0.0, 0.0, 0.2, 0.2, 0.0]])
    assert label_by_attention(word, attention, (7, 8), 0.02) == 8
    assert label_by_attention(Word("dog", 0.1, 0.105), attention, (7, 8), 0.02) is None


def test_recognition_is_the_share_of_the_most_frequent_label() -> None:
    """Guards k / N, the floor of ten occurrences, and occurrences without a label."""
    labels: dict = {"dog": [1] * 9 + [2] * 3, "cat": [1] * 9, "owl": [None] * 6 + [3] * 4}
    found = recognise(labels)
    assert [(one.word, one.label, one.score) for one in found] == [
        ("dog", 1, 75.0),
        ("owl", 3, 40.0),
    ]


def test_shuffled_labels_are_the_same_ones_elsewhere() -> None:
    """Guards the floor: of two words told apart without fault half are right by chance, more by
    what the most frequent label of 200 draws of two gains, some 3; a constant label loses nothing.
    """
    labels: dict = {"dog": [1] * 200, "cat": [2] * 200}
    dealt = shuffled(labels)
    assert [len(own) for own in dealt.values()] == [200, 200]
    assert sorted(dealt["dog"] + dealt["cat"]) == [1] * 200 + [2] * 200
    assert recognition(recognise(labels)) == {"recognition": 100.0, "recognised_well": 100.0}
    assert recognition(recognise(dealt))["recognition"] == pytest.approx(52.0, abs=6.0)
    constant = shuffled({"dog": [1] * 10, "cat": [1] * 30})
    assert recognition(recognise(constant))["recognition"] == 100.0


def test_each_pattern_has_its_rule() -> None:
    """Guards the rules and their order; 'photo' serves three words of ten and more."""
    cases = [
        ("dogs", "dog", "perfect match"),
        ("woodpeckers", None, "perfect match"),
        ("red", "photo", "default token"),
        ("blue", "photo", "default token"),
        ("green", "photo", "default token"),
        ("kitten", "cat", "semantically related"),
        ("horse", "cow", "bucketing"),
        ("pony", "cow", "bucketing"),
        ("house", "spoon", "unexpected"),
        ("silent", "", "unexpected"),
    ]
    labels = {"woodpeckers": encode("woodpeckers")[0], "silent": None}
    words = [
        Recognised(word=w, count=10, label=labels[w] if w in labels else token(str(t)), hits=9)
        for w, t, _ in cases
    ]
    related = {w: frozenset({token("cat")}) if w == "kitten" else frozenset() for w, _, _ in cases}
    assert patterns(words, related) == [pattern for _, _, pattern in cases]
    assert set(PATTERNS) == {pattern for _, _, pattern in cases}


def test_words_are_counted_without_case_and_punctuation() -> None:
    assert spoken_word(Word("Dog,", 0, 1)) == "dog"
    assert spoken_word(Word("...", 0, 1)) == ""


def test_related_words_are_the_nearest_and_readable() -> None:
    """Guards against words that a small table cannot spell, which would all embed alike."""
    model = small_model("speechclip_cascaded")
    known = [t for t in model.clip.vocabulary.tolist() if word_of(t) and encode(word_of(t)) == [t]]
    word = word_of(known[0])
    found = related_tokens(model, [word, "xylophonist"])
    assert known[0] in found[word]
    assert len(found[word]) == 10
    assert found["xylophonist"] == frozenset()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flickr8k(tmp_path_factory.mktemp("corpus") / "flickr8k", train=1, dev=1, test=3)


def write_ctm(corpus: Path, manifest: Manifest) -> None:
    """Write word times as the authors of Flickr8k's alignments do."""
    lines = []
    for utterance in manifest.utterances:
        image, _, number = utterance.utterance_id.rpartition("_")
        lines += [
            f"{image}.jpg_#{number} 1 {start} 0.1 {word}"
            for start, word in ((0.02, "A"), (0.15, "PICTURE"))
        ]
    (corpus / "flickr_audio" / "flickr_8k.ctm").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("variant", "way"),
    [
        ("speechclip_plus", "cif"),
        ("speechclip_hybrid", "attention"),
        ("speechclip_words", "times"),
        ("speechclip_words", "windows"),
    ],
)
def test_words_of_a_ctm_are_labelled(corpus: Path, variant: str, way: str) -> None:
    """Guards the whole way from Flickr8k's alignments to a result, for all kinds of segments."""
    write_ctm(corpus, flickr8k.read(corpus))
    own = {"words": WordsConfig(inference_segmenter=way)} if variant == "speechclip_words" else {}
    result = evaluate(small_model(variant, **own), "words", corpus="flickr8k", root=corpus)
    found = result.metrics["test"]
    assert found["words"] == 2
    assert found["occurrences"] == 2 * 3 * CAPTIONS
    assert {row["word"] for row in found["by_word"]} == {"a", "picture"}
    assert all(row["count"] == 3 * CAPTIONS for row in found["by_word"])
    assert sum(found["patterns"].values()) == pytest.approx(100.0)
    assert found["segmentation"].keys() == {way, "uniform"}
    # The board says what the segments are, and has boundaries of the keywords' own.
    figures = list(board_figures(result))
    assert {one.detail for one in figures} == {SEGMENTS[way]}
    (f1,) = (one.keys for one in figures if one.column == "f1")
    assert f1 == ("test", "segmentation", way, "50ms", "f1")
    if way == "times":  # the oracle finds all boundaries
        assert found["segmentation"][way]["50ms"]["f1"] == 100.0
    columns = {column.name for column in BENCHMARK.section.columns} if BENCHMARK.section else {}
    assert {one.column for one in figures} == columns


def test_published_alignments_are_read(corpus: Path, tmp_path: Path) -> None:
    """Guards the JSON form of SpokenCOCO's alignments, pauses included."""
    manifest = flickr8k.read(corpus)
    first = manifest.split("test")[0]
    rows = [
        {
            "caption": {"wav": f"wavs/x/{Path(first.audio).name}"},
            "text_alignment": "0.0____0.1 0.1__a__0.2 0.2__Dog__0.65",
        },
        {"caption": {"wav": "wavs/other.wav"}, "text_alignment": "0.0__a__0.2"},
        {"caption": {"wav": "wavs/unaligned.wav"}},
    ]
    path = tmp_path / "alignments.json"
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")
    found = with_alignments(manifest, path)
    assert found.split("test")[0].words == (Word("a", 0.1, 0.2), Word("dog", 0.2, 0.65))
    assert f"word times of 1 of {len(manifest.utterances)} recordings" in found.notes[-1]


def test_alignments_of_a_name_that_files_share_are_refused(corpus: Path, tmp_path: Path) -> None:
    """Guards against the times of one recording for all that are called `0.wav`."""
    read = flickr8k.read(corpus)
    named = tuple(replace(u, audio=f"{u.utterance_id}/0.wav") for u in read.utterances)
    rows = [{"caption": {"wav": "0.wav"}, "text_alignment": "0.0__a__0.2"}]
    path = tmp_path / "alignments.json"
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")
    with pytest.raises(CorpusError, match="aligns '0', the name of several files"):
        with_alignments(replace(read, utterances=named), path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "holds no alignments"),
        ('{"data": [{"caption": {}}]}', "holds no alignments"),
        ('{"data": [{"caption": {"wav": "a.wav"}, "text_alignment": "x__a__0.2"}]}', "expected"),
        ('{"data": [{"caption": {"wav": "a.wav"}, "text_alignment": "0__a__1"}]}', "none of them"),
        (
            '{"data": [{"caption": {"wav": "a.wav"}, "text_alignment": "1__a__0"}]}',
            "a.wav: 'words'",
        ),
    ],
)
def test_wrong_alignments_are_one_line(
    corpus: Path, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "alignments.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=said) as caught:
        with_alignments(flickr8k.read(corpus), path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match="cannot read the alignments"):
        with_alignments(flickr8k.read(corpus), tmp_path / "none.json")


def test_a_corpus_without_times_or_with_too_few_words_is_one_line(corpus: Path) -> None:
    """Guards against means over nothing."""
    model = small_model("speechclip_plus")
    read = flickr8k.read(corpus)
    silent = replace(read, utterances=tuple(replace(u, words=()) for u in read.utterances))
    with pytest.raises(CorpusError, match="no English recording of split 'test' of flickr8k has"):
        evaluate(model, "words", corpus=silent)
    rare = replace(
        read,
        utterances=tuple(
            replace(u, words=(Word(f"word{i}", 0.0, 0.2),)) for i, u in enumerate(read.utterances)
        ),
    )
    with pytest.raises(CorpusError, match="no word of split 'test' occurs 10 times"):
        evaluate(model, "words", corpus=rare)


def test_the_command_takes_alignments(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards `run_benchmark.py words`: a file of word times in, a table and a result out."""
    rows = [
        {"caption": {"wav": u.audio}, "text_alignment": "0.02__red__0.12 0.15__picture__0.25"}
        for u in flickr8k.read(corpus).utterances
    ]
    path = tmp_path / "alignments.json"
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")
    small_model("speechclip_hybrid_plus").save_pretrained(tmp_path / "model")
    out = tmp_path / "result.json"
    options = f"-k {tmp_path}/model --data flickr8k --data-root {corpus} --out {out}"
    assert main(["words", *options.split(), "--alignments", str(path)]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == str(out)
    assert sum(way in line for line in said for way in ("cif", "attention", "uniform")) == 3
    found = read_result(out).metrics["test"]
    assert {row["word"] for row in found["by_word"]} == {"red", "picture"}
