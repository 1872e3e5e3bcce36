"""Transcription: scores by hand, oracle and floors, then the whole command."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.formulas.keyword_scores import words_of
from s3prl_speechclip.benchmarks.formulas.transcript_scores import (
    count,
    frequent_tokens,
    other_texts,
    score_intervals,
    scored_tokens,
    scores,
)
from s3prl_speechclip.benchmarks.shared.decoding import Decoded
from s3prl_speechclip.benchmarks.transcribe import (
    BENCHMARK,
    board_figures,
    split_metrics,
    target,
    training_targets,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Utterance
from s3prl_speechclip.encoders.vocabulary import END_OF_TEXT, decode, encode
from s3prl_speechclip.errors import ConfigError, CorpusError
from s3prl_speechclip.results import read_result

PERFECT = {
    "token_error": 0.0,
    "word_error": 0.0,
    "precision": 100.0,
    "recall": 100.0,
    "f1": 100.0,
    "bleu": 100.0,
    "length": 1.0,
}
SENTENCES = (
    "A red bird sits on the old fence.",
    "Two dogs, a big one and a small one!",
    "It's the woodpecker's tree...",
    "Bye bye, little yellow duck.",
    "A flower.",
)


def utterance(number: int, text: str, language: str = "en", caption: str = "") -> Utterance:
    return Utterance(
        utterance_id=str(number),
        audio="",
        image="",
        pair_id=number,
        text=text,
        caption=caption,
        language=language,
        split="test",
    )


def of(text: str) -> tuple[int, ...]:
    return scored_tokens(encode(text))


def test_runs_are_merged_and_punctuation_is_left_out() -> None:
    """Guards the stated rule: a token again after another one stays."""
    dog, red = encode("dog")[0], encode("red")[0]
    assert scored_tokens([dog, dog, red, dog, END_OF_TEXT]) == (dog, red, dog)
    assert of("Dog, dog! Red.") == (dog, red)  # punctuation does not keep a run apart
    assert of("...") == ()


def test_scores_by_hand() -> None:
    """Guards each score. From 'red cat sits on', as it is merged, to 'a red bird sits on a fence',
    7 words, 4 edits lead: three insertions and a substitution. Of the content words red, bird,
    sits, fence it names two, and one wrong one. One word agrees in 3 of 4 cases, two in 1 of 3."""
    counts = count(of("red red cat sits on"), of("A red bird sits on a fence."))
    found = scores(counts)
    assert found["token_error"] == found["word_error"] == pytest.approx(100 * 4 / 7)
    assert found["precision"] == pytest.approx(100 * 2 / 3)
    assert found["recall"] == 50.0
    assert found["f1"] == pytest.approx(400 / 7)
    assert found["length"] == pytest.approx(4 / 7)
    # No three or four words agree: 1 of 2 x 2, and 1 of 4 x 1 (smoothing exp).
    mean = (3 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert found["bleu"] == pytest.approx(100 * mean * np.exp(1 - 7 / 4))


def test_pieces_make_words() -> None:
    """Guards words of several tokens: half of one is a wrong word and a right token."""
    whole = of("woodpeckers")
    assert len(whole) > 1
    found = scores(count(whole[:1], whole))
    assert found["word_error"] == 100.0 and found["token_error"] < 100.0
    assert scores(count(whole, whole)) == pytest.approx(PERFECT)


def test_edits_agree_with_a_slow_table() -> None:
    """Guards which side is the reference, and that counts of recordings add up."""

    def edits(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))

    dice = random.Random(0)
    words = [encode(word)[0] for word in ("red", "dog", "cat", "the")]
    drawn = [tuple(scored_tokens(dice.choices(words, k=dice.randint(0, 5)))) for _ in range(60)]
    pairs = list(pairwise(drawn))
    total = sum(count(*pair) for pair in pairs)
    expected = sum(edits(*pair) for pair in pairs) / sum(len(right) for _, right in pairs)
    assert scores(total)["token_error"] == pytest.approx(100 * expected)


def test_summed_bleu_is_that_of_the_corpus() -> None:
    """Guards BLEU from counts against sacrebleu's own over whole texts."""
    texts = [" ".join(words_of(decode(of(text)))) for text in SENTENCES]
    said = [*texts[1:3], texts[0].replace("red", "green"), texts[3], "a red flower"]
    total = sum(count(of(a), of(b)) for a, b in zip(said, texts, strict=True))
    whole = BLEU(tokenize="none", effective_order=True).corpus_score(said, [texts])
    assert 1.0 < whole.score < 99.0
    assert scores(total)["bleu"] == pytest.approx(whole.score)


def oracle(language: str = "en") -> list[Decoded]:
    """Make recordings whose keywords are the tokens of their captions."""
    english = language.startswith("en")
    return [
        Decoded(
            utterance=utterance(n, text if english else "inconnu", language, text),
            frames=100,
            token_ids=tuple(encode(text)),
        )
        for n, text in enumerate(SENTENCES)
    ]


@pytest.mark.parametrize("kind", ["transcription", "translation"])
def test_the_captions_own_tokens_are_perfect(kind: str) -> None:
    """Guards the whole chain with an oracle, apostrophes, repeated words and short captions
    included: no error, BLEU 100, with no width of the interval; and floors far from it."""
    decoded = oracle("en-GB" if kind == "transcription" else "fr")
    found = split_metrics(decoded, "test", of("a the"))
    part = found[kind]
    assert {name: part["keywords"][name] for name in PERFECT} == pytest.approx(PERFECT)
    assert part["keywords"]["interval_95"]["bleu"] == pytest.approx([100.0, 100.0])
    assert part["keywords"]["interval_95"]["token_error"] == [0.0, 0.0]
    for floor in ("shuffled", "other_caption", "frequent"):
        assert part[floor]["word_error"] > 50.0
        assert part[floor]["f1"] == 0.0
    if kind == "translation":
        assert found["by_language"]["fr"] == part
        assert "transcription" not in found


def test_random_keywords_are_at_their_floor() -> None:
    """Guards `shuffled`: keywords that have nothing to do with the speech score on their own
    captions as on others', within what 600 draws of one of five leave by chance."""
    dice = random.Random(0)
    decoded = [
        Decoded(
            utterance=utterance(n, dice.choice(SENTENCES)),
            frames=100,
            token_ids=tuple(encode(dice.choice(SENTENCES))),
        )
        for n in range(600)
    ]
    part = split_metrics(decoded, "test", ())["transcription"]
    assert "frequent" not in part
    assert 10.0 < part["keywords"]["f1"] < 30.0  # one in five is right
    # `shuffled` never meets the keywords' own caption less often: the same share.
    assert part["shuffled"]["f1"] == pytest.approx(part["keywords"]["f1"], abs=6.0)
    low, high = part["keywords"]["interval_95"]["f1"]
    assert low < part["keywords"]["f1"] < high


def test_intervals_draw_pictures() -> None:
    """Guards against recordings taken as independent: a hundred of one picture each, or of two
    pictures, one right and one wrong. Of two, a draw is all right, all wrong or half: 0 to 100."""
    right, wrong = count(of("dog"), of("dog")), count(of("cat"), of("dog"))
    counts = np.array([right] * 50 + [wrong] * 50)
    alone = score_intervals(counts, list(range(100)))["word_error"]
    assert alone == pytest.approx((40.0, 60.0), abs=2.0)  # binomial: 50 +- 1.96 x 5
    assert score_intervals(counts, [0] * 50 + [1] * 50)["word_error"] == (0.0, 100.0)


def test_floors_of_captions() -> None:
    """Guards that another caption is another text, and how many frequent tokens there are."""
    texts = [of(text) for text in ("a dog", "a dog", "a red cat", "the owl")]
    drawn = other_texts(texts)
    assert all(one != other and other in texts for one, other in zip(texts, drawn, strict=True))
    assert other_texts(texts[:2]) == []
    a, dog = encode("a dog")
    assert frequent_tokens(texts) == (a, dog)  # 9 tokens of 4 captions
    assert frequent_tokens([]) == ()


def test_the_target_is_what_is_said_in_english() -> None:
    assert target(utterance(0, "A dog.", caption="Some dog.")) == of("a dog")
    assert target(utterance(0, "", caption="Some dog.")) == of("some dog")
    assert target(utterance(0, "Un chien.", "fr", "Some dog.")) == of("some dog")
    assert target(utterance(0, "Un chien.", "fr")) == ()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flickr8k(tmp_path_factory.mktemp("corpus") / "flickr8k", train=2, dev=1, test=3)


@pytest.mark.parametrize("variant", ["speechclip_plus", "speechclip_hybrid", "speechclip_words"])
def test_the_command_measures_every_kind_of_keywords(
    corpus: Path, tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the way from recordings to table and board, for each kind; a model knows
    nothing of two captions, so that its own score is that of a stranger."""
    model = small_model(variant)
    result = evaluate(model, "transcribe", corpus="flickr8k", root=corpus)
    part = result.metrics["test"]["transcription"]
    assert part["recordings"] == 3 * CAPTIONS and part["pictures"] == 3
    assert part["keywords"]["word_error"] > 50.0
    assert "nrefs:1" in result.protocol["bleu"]
    model.save_pretrained(tmp_path / "model")
    argv = ["transcribe", "-u", variant, "-k", str(tmp_path / "model"), "--data", "flickr8k"]
    out = tmp_path / "result.json"
    assert main([*argv, "--data-root", str(corpus), "--out", str(out)]) == 0
    assert read_result(out).metrics == result.metrics
    assert "| transcription |" in capsys.readouterr().out
    figures = list(board_figures(result))
    assert {one.baseline for one in figures} == {"", "other caption", "frequent"}
    columns = {column.name for column in BENCHMARK.section.columns} if BENCHMARK.section else {}
    assert {one.column for one in figures} == columns


def test_frequent_tokens_are_those_of_training(corpus: Path) -> None:
    """Guards the floor against knowledge of the test captions: 'brown' is in none of training."""
    manifest = flickr8k.read(corpus)
    found = {decode([t]) for text in training_targets(manifest) for t in text}
    assert found == {"a", "red", "green", "picture", "number", "0", "1"}
    alone = replace(manifest, utterances=manifest.split("test"))
    assert training_targets(alone) == []


def test_what_cannot_be_measured_says_so(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="names no keywords"):
        evaluate(small_model("speechclip_parallel"), "transcribe", corpus="flickr8k", root=corpus)
    manifest = flickr8k.read(corpus)
    mute = tuple(replace(u, language="fr", caption="") for u in manifest.utterances)
    with pytest.raises(CorpusError, match="no recording of split 'test' has an English caption"):
        evaluate(
            small_model("speechclip_plus"), "transcribe", corpus=replace(manifest, utterances=mute)
        )
