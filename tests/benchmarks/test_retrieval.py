"""Retrieval by language, across languages and with written captions, against the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import retrieval_oracle as oracle
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.formulas.retrieval_scores import (
    crossing_recall,
    recall_by_language,
    text_recall,
)
from s3prl_speechclip.benchmarks.retrieval import read_transcripts, transcribed
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Utterance
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.modules.recall import retrieval_ranks

PICTURES = 12


def unit(rows: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=1)


def recordings() -> list[tuple[int, str]]:
    """Pictures and languages: English three times each, German of all, Dutch of too few."""
    said = [(picture, "en-GB") for picture in range(PICTURES) for _ in range(3)]
    said += [(picture, "de") for picture in range(PICTURES)]
    return said + [(picture, "nl") for picture in range(9)]


def utterances() -> list[Utterance]:
    return [
        Utterance(
            utterance_id=str(n),
            audio="",
            image=str(picture),
            pair_id=picture,
            text="",
            split="test",
            language=language,
        )
        for n, (picture, language) in enumerate(recordings())
    ]


def test_crossing_agrees_with_the_oracle() -> None:
    """Guards which recordings ask and answer, and languages that share too few pictures."""
    said = utterances()
    vectors = unit(len(said))
    ids = torch.tensor([u.pair_id for u in said])
    found = crossing_recall({"parallel": vectors}, ids, said)
    assert found["pictures"] == {"de>en": PICTURES, "en>de": PICTURES}
    english = [i for i, u in enumerate(said) if u.language == "en-GB"]
    german = [i for i, u in enumerate(said) if u.language == "de"]
    for pair, asking, answering in (("de>en", german, english), ("en>de", english, german)):
        expected = oracle.recall(
            vectors[answering].tolist(),
            vectors[asking].tolist(),
            ids[answering].tolist(),
            ids[asking].tolist(),
            (1, 5, 10),
        )["image_to_speech"]
        assert found["parallel"]["recall@10"][pair] == pytest.approx(expected[10], abs=1e-4)
    assert found["chance"]["recall@10"]["en>de"] == pytest.approx(100 * 10 / 12, abs=1e-4)


def test_two_languages_that_share_too_little_are_left_alone() -> None:
    said = [u for u in utterances() if u.language != "de"]
    ids = torch.tensor([u.pair_id for u in said])
    assert crossing_recall({"parallel": unit(len(said))}, ids, said) == {}


def test_languages_split_the_whole() -> None:
    """Guards recall by language: weighted by recordings it is the recall of all."""
    said = utterances()
    vectors, images = unit(len(said)), unit(PICTURES, seed=1)
    ids = [u.pair_id for u in said]
    ranks = retrieval_ranks(vectors, images, ids, range(PICTURES))
    found = recall_by_language(ranks, said)
    assert {name: one["recordings"] for name, one in found.items()} == {
        "de": PICTURES,
        "en": 3 * PICTURES,
        "nl": 9,
    }
    total = sum(one["recordings"] * one["recall@5"] for one in found.values()) / len(said)
    within = (ranks.speech_to_image <= 5).float().mean()
    assert total == pytest.approx(100 * float(within), abs=1e-3)


def test_captions_agree_with_the_oracle() -> None:
    """Guards text retrieval: a caption's recordings answer it, whatever picture they belong to."""
    captions = [f"caption {n % 4}" for n in range(20)]
    distinct = sorted(set(captions))
    vectors, texts = unit(20), unit(4, seed=1)
    found = text_recall({"sum": vectors}, captions, texts, distinct)
    ids = [distinct.index(caption) for caption in captions]
    expected = oracle.recall(vectors.tolist(), texts.tolist(), ids, [0, 1, 2, 3], (1, 5, 10))
    assert found["sum"]["speech_to_text"]["recall@1"] == expected["speech_to_image"][1]
    assert found["sum"]["text_to_speech"]["recall@5"] == expected["image_to_speech"][5]
    assert found["chance"]["speech_to_text"]["recall@1"] == 25.0


def test_an_image_whose_recordings_are_all_broken_is_left_out_and_noted(tmp_path: Path) -> None:
    """Guards --skip-broken against an image without captions, which cannot be measured."""
    corpus = write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=3)
    manifest = flickr8k.read(corpus)
    for utterance in manifest.split("test")[:CAPTIONS]:
        manifest.path(utterance.audio).write_bytes(b"not a recording")
    result = evaluate(
        small_model("speechclip_parallel"), "retrieval", corpus=manifest, skip_broken=True
    )
    found = result.metrics["test"]
    assert (found["recordings"], found["images"]) == (2 * CAPTIONS, 2)
    assert found["text"]["recordings"] == 2 * CAPTIONS
    assert result.protocol["notes"][-1] == (
        f"test: left out {CAPTIONS} recordings that cannot be read and 1 images that no other "
        "recording describes"
    )


def test_recordings_of_a_broken_image_are_left_out_of_kept_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards --keep-states with --skip-broken against states of another row's recording."""
    monkeypatch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path / "cache"))
    manifest = flickr8k.read(write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=3))
    manifest.path(manifest.split("test")[0].image).write_bytes(b"not an image")
    model = small_model("speechclip_parallel")
    read, kept = (
        evaluate(model, "retrieval", corpus=manifest, skip_broken=True, keep_states=keep)
        for keep in (False, True)
    )
    assert read.metrics["test"]["recordings"] == 2 * CAPTIONS
    assert kept.metrics == read.metrics


def transcript_file(path: Path, texts: dict[str, str]) -> Path:
    path.write_text("".join(f"{name} {text}\n" for name, text in texts.items()), encoding="utf-8")
    return path


def test_written_text_is_retrieved_in_place_of_speech(tmp_path: Path) -> None:
    """Guards the upper bound and the recogniser's row: transcripts equal to the captions give the
    same row, and empty ones what chance gives, in both directions."""
    corpus = flickr8k.read(write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=20))
    model = small_model("speechclip_parallel")
    said = {u.utterance_id: u.text for u in corpus.split("test")}
    found = {
        name: evaluate(
            model,
            "retrieval",
            corpus=corpus,
            transcripts=transcript_file(tmp_path / f"{name}.txt", texts),
        ).metrics["test"]
        for name, texts in {"same": said, "empty": dict.fromkeys(said, "")}.items()
    }
    assert found["same"]["transcripts"] == found["same"]["captions"]
    nothing = found["empty"]
    assert nothing["captions"] == found["same"]["captions"]
    for direction, queries in (("speech_to_image", "recordings"), ("image_to_speech", "images")):
        expected = nothing["chance"][direction]["recall@5"] / 100
        deviation = (expected * (1 - expected) / nothing[queries]) ** 0.5
        found_by_chance = nothing["transcripts"][direction]["recall@5"] / 100
        assert abs(found_by_chance - expected) < 4 * deviation


def test_a_name_that_several_recordings_share_is_refused(tmp_path: Path) -> None:
    """Guards against one transcript for all recordings that are called `0.wav`."""
    read = flickr8k.read(write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=2))
    utterances = [
        replace(u, audio=f"{u.utterance_id}/0.wav") if u.split == "test" else u
        for u in read.utterances
    ]
    corpus = replace(read, utterances=tuple(utterances))
    tested = corpus.split("test")
    path = transcript_file(tmp_path / "some.txt", {"0": "a dog"})
    with pytest.raises(CorpusError, match=f"a line '0', the name of {len(tested)} files"):
        transcribed(tested, read_transcripts(path), path)
    one_file = [replace(u, audio="x/0.wav") for u in tested]  # a recording of several pictures
    assert transcribed(one_file, read_transcripts(path), path) == ["a dog"] * len(tested)
    by_id = transcript_file(tmp_path / "all.txt", {u.utterance_id: u.text for u in tested})
    assert transcribed(tested, read_transcripts(by_id), by_id) == [u.text for u in tested]


def test_a_recording_without_a_transcript_is_named(tmp_path: Path) -> None:
    corpus = flickr8k.read(write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=2))
    _, *others = [Path(u.audio).stem for u in corpus.split("test")]
    path = transcript_file(tmp_path / "some.txt", dict.fromkeys(others, "a dog"))
    with pytest.raises(CorpusError, match=f"no line of 1 of {len(others) + 1} recordings"):
        evaluate(small_model("speechclip_parallel"), "retrieval", corpus=corpus, transcripts=path)
