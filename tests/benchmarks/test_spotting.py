"""Keyword spotting: formulas by hand, oracle and shuffled embeddings, then the whole command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model
from torch.nn import functional as F

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.formulas.keyword_scores import stop_words, word_of
from s3prl_speechclip.benchmarks.formulas.spotting_scores import (
    actual_localisation,
    chance_detection,
    detection_scores,
    equal_error_rate,
    oracle_localisation,
    precision_at,
    share_of_time,
    within,
)
from s3prl_speechclip.benchmarks.shared.decoding import Decoded, embed_texts
from s3prl_speechclip.benchmarks.spotting import (
    BENCHMARK,
    board_figures,
    query_words,
    split_metrics,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Utterance, Word
from s3prl_speechclip.encoders.vocabulary import encode
from s3prl_speechclip.errors import ConfigError, CorpusError, ResultError
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.results import read_result

WORDS = 4
EACH = 12  # recordings a word
SECONDS = 1.0


def test_precision_counts_the_best_and_ties_against_the_query() -> None:
    scores, right = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, False, True, True])
    assert precision_at(scores, right, 1) == 100.0
    assert precision_at(scores, right, 2) == 50.0
    assert precision_at(scores, right, 10) == 75.0
    assert precision_at(np.zeros(4), right, 1) == 0.0


def test_equal_error_rate_by_hand() -> None:
    """Guards the crossing: where hits go from half to all, one of 4 wrong recordings is accepted,
    and a quarter of the right ones is missed on the way."""
    right = np.array([True, False, True, False, False, False])
    assert equal_error_rate(np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), right) == 25.0
    assert equal_error_rate(np.array([6.0, 1.0, 5.0, 1.0, 1.0, 1.0]), right) == 0.0
    assert equal_error_rate(np.zeros(6), right) == pytest.approx(50.0)


def test_random_scores_have_the_chance_that_is_stated() -> None:
    """Guards chance: over 400 random queries, within four standard errors of P@10, some 0.6 each,
    and of the others, which vary less."""
    random = np.random.default_rng(0)
    right = np.zeros(100, bool)
    right[:20] = True
    found = detection_scores((random.random(100), right) for _ in range(400))
    chance = chance_detection([right])
    assert chance == {"P@10": 20.0, "P@N": 20.0, "EER": 50.0}
    for name, value in chance.items():
        assert found[name] == pytest.approx(value, abs=2.5)


def test_localisation_by_hand() -> None:
    """Guards the known case: two words, four recordings, of the positions three are right."""
    spoken = np.array([[True, True, False, False], [False, True, True, False]])
    correct = np.array([[True, False, False, False], [False, True, True, False]])
    assert oracle_localisation(correct, spoken) == 75.0
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    # Word 1 finds recordings 1 and 2, right in 1; word 2 finds 1, where it is not, and 2.
    assert actual_localisation(scores, correct, spoken) == {"P@10": 37.5, "P@N": 50.0}


def test_a_position_is_within_a_word_without_tolerance() -> None:
    times = [(0.2, 0.4), (0.6, 0.7)]
    assert [within(p, times) for p in (0.19, 0.2, 0.4, 0.65)] == [False, True, False, True]
    assert share_of_time(times, 1.0) == pytest.approx(0.3)


def known_words(model: SpeechClip) -> list[str]:
    """Return content words of the small vocabulary, such as 'ay', that are one token."""
    words = [word_of(token) for token in model.clip.vocabulary.tolist()]
    known = {w for w in words if w is not None and len(encode(w)) == 1} - stop_words() - {"a"}
    return sorted(known)[:WORDS]


def oracle(model: SpeechClip) -> tuple[list[Decoded], dict[int, torch.Tensor]]:
    """Make recordings of one word each, the second of two keywords, and pictures, that agree.

    There are fewer words than dimensions, so that a vector exists whose products with all texts
    are +1 for the word that is spoken and -1 for the others.
    """
    words = known_words(model)
    texts = embed_texts(model, words)
    wanted = 2 * torch.eye(WORDS) - 1
    spoken = F.normalize(wanted @ torch.linalg.pinv(texts).T, dim=-1)
    row = {token: n for n, token in enumerate(model.clip.vocabulary.tolist())}
    tokens = model.clip.codebook().detach()[[row[encode(word)[0]] for word in words]].float()
    decoded, pictures = [], {}
    for number in range(WORDS * EACH):
        word, other = number % WORDS, (number + 1) % WORDS
        utterance = Utterance(
            utterance_id=str(number),
            audio="",
            image="",
            pair_id=number,
            text=words[word],
            split="test",
            words=(Word("the", 0.0, 0.3), Word(words[word].capitalize(), 0.3, 0.8)),
        )
        pictures[number] = spoken[word]
        decoded.append(
            Decoded(
                utterance=utterance,
                frames=round(SECONDS / 0.02),
                embeddings={"parallel": spoken[word], "cascaded": spoken[word]},
                token_ids=(0, 0),
                spans=((0.0, 0.2), (0.5, 0.6)),
                # The first keyword is as far from the word as the vocabulary allows.
                queries=torch.stack([-tokens[word] - tokens[other], tokens[word]]).numpy(),
            )
        )
    return decoded, pictures


def test_oracle_embeddings_find_everything() -> None:
    """Guards scores, right answers and places: exact embeddings have 100 % and no errors."""
    model = small_model("speechclip_hybrid_plus")
    found = split_metrics(model, *oracle(model), "test")
    perfect = {"P@10": 100.0, "P@N": 100.0, "EER": 0.0}
    assert found["words"]["queries"] == WORDS
    for way in ("parallel", "cascaded", "sum", "keywords"):
        assert found["words"][way] == perfect, way
    assert found["words"]["chance"] == {"P@10": 25.0, "P@N": 25.0, "EER": 50.0}
    assert found["pictures"]["parallel"] == perfect
    place = found["localisation"]
    assert (place["recordings"], place["queries"]) == (WORDS * EACH, WORDS)
    assert (place["oracle"], place["oracle_any_keyword"], place["oracle_chance"]) == (100, 50, 50)
    assert place["actual"]["sum"] == {"P@10": 100.0, "P@N": 100.0}
    assert place["actual"]["chance"] == {"P@10": 12.5, "P@N": 12.5}


def test_shuffled_embeddings_find_what_chance_finds() -> None:
    """Guards against a way round the embeddings: over 20 orders the mean is chance; of 80 values,
    each with a standard deviation of some 12, four standard errors are some 5."""
    model = small_model("speechclip_hybrid_plus")
    decoded, pictures = oracle(model)
    random = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for _ in range(20):
        order = random.permutation(len(decoded)).tolist()
        shuffled = [
            replace(one, embeddings=decoded[n].embeddings, queries=decoded[n].queries)
            for one, n in zip(decoded, order, strict=True)
        ]
        found.append(split_metrics(model, shuffled, pictures, "test")["words"])
    for way in ("parallel", "sum", "keywords"):
        assert np.mean([one[way]["P@N"] for one in found]) == pytest.approx(25.0, abs=5.0)


def test_queries_are_content_words_that_are_said_often_and_not_always() -> None:
    """Guards the rule: stop words, rare words, words in all captions and words of several tokens
    do not query."""
    model = small_model("speechclip_hybrid_plus")
    decoded, _ = oracle(model)
    word, *_ = known_words(model)

    def said(number: int, one: Decoded) -> Decoded:
        often = f"the a {word} xylophonist" if number < 10 else "the"
        return replace(one, utterance=replace(one.utterance, text=often))

    heard = [said(number, one) for number, one in enumerate(decoded)]
    assert query_words(model, heard, 10) == [word]
    assert query_words(model, heard, 11) == []
    assert query_words(model, heard[:10], 10) == []
    with pytest.raises(CorpusError, match="no content word is in the captions of 11 English"):
        split_metrics(model, heard, {}, "test", 11)


def test_broken_embeddings_are_one_line() -> None:
    model = small_model("speechclip_hybrid_plus")
    decoded, pictures = oracle(model)
    bad = replace(decoded[0], embeddings={n: v * np.nan for n, v in decoded[0].embeddings.items()})
    with pytest.raises(ResultError, match="parallel embeddings are not numbers"):
        split_metrics(model, [bad, *decoded[1:]], pictures, "test")


@pytest.mark.parametrize("variant", ["speechclip_parallel", "speechclip_plus", "speechclip_hybrid"])
def test_the_command_ranks_and_places(
    variant: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards `run_benchmark.py spotting` for spans, CLS attention and models without keywords:
    captions of its own words, times of a ctm, a table and the board's figures."""
    model = small_model(variant)
    words = known_words(model)
    corpus = write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=4)
    lines, times = [], []
    for utterance in flickr8k.read(corpus).utterances:
        image, _, number = utterance.utterance_id.rpartition("_")
        word = words[utterance.pair_id % 2]
        lines.append(f"{image}.jpg#{number}\tThe {word} .")
        times.append(f"{image}.jpg_#{number} 1 0.02 0.2 {word.upper()}")
    (corpus / "Flickr8k.token.txt").write_text("\n".join(lines), encoding="utf-8")
    (corpus / "flickr_audio" / "flickr_8k.ctm").write_text("\n".join(times), encoding="utf-8")
    model.save_pretrained(tmp_path / "model")
    out = tmp_path / "result.json"
    options = f"-k {tmp_path}/model --data flickr8k --data-root {corpus} --out {out} --fewest 5"
    assert main(["spotting", *options.split()]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == str(out)
    result = read_result(out)
    found = result.metrics["test"]
    assert found["recordings"] == 4 * CAPTIONS
    assert found["by_word"].keys() == set(words[:2])
    assert found["words"]["chance"]["P@10"] == 50.0
    assert found["pictures"]["queries"] == 4
    assert found["pictures"]["chance"]["EER"] == 50.0
    keywords = variant != "speechclip_parallel"
    assert ("localisation" in found) is keywords
    if keywords:
        assert found["localisation"]["recordings"] == 4 * CAPTIONS
        assert 0 <= found["localisation"]["oracle"] <= 100
    columns = {figure.column for figure in board_figures(result)}
    assert BENCHMARK.section is not None
    shown = {column.name for column in BENCHMARK.section.columns}
    assert columns == (shown if keywords else shown - {"placed P@10", "oracle"})


def test_fewer_than_one_recording_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--fewest is 0; give 1 or more"):
        evaluate(small_model("speechclip_parallel"), "spotting", fewest=0)
