"""Decoded keywords, the benchmark of them, its page and its plot, on a small corpus."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import open_page
from PIL import Image
from small_corpus import CAPTIONS, write_flickr8k
from small_models import small_model, speech_batch

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.pages.keywords import (
    choose,
    keyword_placement,
    named_words,
    placement,
    plot_keywords,
    principal_components,
    token_text,
    write_page,
)
from s3prl_speechclip.benchmarks.shared.benchmark import Trial, request
from s3prl_speechclip.benchmarks.shared.decoding import (
    Decoded,
    attention_segments,
    decode_split,
    evenly,
    nearest_tokens,
    require_keywords,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Manifest, Word
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, encode
from s3prl_speechclip.errors import AudioError, ConfigError, CorpusError
from s3prl_speechclip.model.config import KeywordConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.results import read_result, write_result
from s3prl_speechclip.structures import TaskResult


def decode(
    model: SpeechClip, manifest: Manifest, vectors: int = 0, **options: Any
) -> tuple[list[Decoded], Trial]:
    trial = Trial(request(model, "keywords", data=manifest, **{"batch_size": 4, **options}))
    return decode_split(trial, "test", vectors=vectors), trial


def test_neighbours_are_the_nearest_tokens_by_cosine() -> None:
    """Guards the neighbours against special tokens, and a token against not being its own."""
    model = small_model("speechclip_cascaded")
    table = model.clip.codebook().double().numpy()
    ids = model.clip.vocabulary.tolist()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    ordinary = [row for row, token in enumerate(ids) if token not in SPECIAL_TOKENS]
    near = nearest_tokens(model, 4)
    assert near.keys() == set(ids)
    for row in ordinary:
        order = sorted(ordinary, key=lambda other: -float(unit[row] @ unit[other]))
        assert near[ids[row]] == tuple(ids[other] for other in order[:4])
        assert near[ids[row]][0] == ids[row]
    assert not {token for found in near.values() for token in found} & set(SPECIAL_TOKENS)


@pytest.mark.parametrize("variant", ["speechclip_parallel", "speechclip_hybrid"])
def test_attention_is_that_of_the_model_itself(variant: str) -> None:
    """Guards the attention shown against another layer's, or other inputs': it is computed again
    from what reaches the last layer in the model's own forward pass."""
    model = small_model(variant)
    attention = model.branch.attention
    layer = getattr(attention, "layers", [None])[-1]
    inner = attention.attention if layer is None else layer.self_attn
    seen: list = []
    hook = inner.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        features = model.speech_encoder(speech_batch(8000, 5000))
        model(features)
        hook.remove()
        mixed = model.layer_mix(features.hidden_states)
        found = model.branch.cls_attention(mixed, features.lengths)
        args, kwargs = seen[0]
        _, expected = inner(
            *args, **{**kwargs, "need_weights": True, "average_attn_weights": False}
        )
    assert found is not None
    tokens = model.branch.cls.shape[1]
    expected = expected[:, :, :tokens, tokens:].transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert float(found[1, :, :, int(features.lengths[1]) :].abs().max()) == 0.0


def test_segments_are_runs_of_attended_frames() -> None:
    """Guards the union over heads, runs that touch the ends, and lone frames."""
    one = np.zeros(20)
    one[[0, 1]] = 1.0
    other = np.zeros(20)
    other[[9, 19]] = 1.0
    both = attention_segments(np.stack([one, other]))
    assert both == ((0.0, 0.04),)
    assert attention_segments(other[None]) == (
        (pytest.approx(0.18), pytest.approx(0.2)),
        (pytest.approx(0.38), pytest.approx(0.4)),
    )


def test_recordings_come_in_order_with_what_was_asked_for(tmp_path: Path) -> None:
    """Guards against results in the order of batches, and against vectors of other recordings."""
    manifest = flickr8k.read(write_flickr8k(tmp_path / "corpus", train=1, dev=1, test=3))
    model = small_model("speechclip_plus")
    decoded, _ = decode(model, manifest, 5)
    assert [one.utterance for one in decoded] == list(manifest.split("test"))
    assert [i for i, one in enumerate(decoded) if one.queries is not None] == [0, 3, 6, 9, 12]
    alone, _ = decode(model, manifest, 15, batch_size=1)
    for one, other in zip(decoded, alone, strict=True):
        assert one.token_ids == other.token_ids
        assert len(one.spans) == len(one.token_ids)
        assert one.alpha is not None
        assert len(one.alpha) == one.frames
        if one.queries is not None:
            np.testing.assert_allclose(one.queries, other.queries, atol=1e-5)
            np.testing.assert_allclose(one.unnormed, other.unnormed, atol=1e-5)
            assert not np.allclose(one.queries, one.unnormed, atol=1e-2)


def test_without_keyword_norm_there_is_nothing_to_undo(tmp_path: Path) -> None:
    """Guards the ablation model.keywords.norm=none."""
    manifest = flickr8k.read(write_flickr8k(tmp_path / "corpus", train=1, dev=1, test=1))
    model = small_model("speechclip_plus", keywords=KeywordConfig(norm="none"))
    for one in decode(model, manifest, 5)[0]:
        np.testing.assert_array_equal(one.queries, one.unnormed)


def test_broken_recordings_are_named_or_counted(tmp_path: Path) -> None:
    """Guards against recordings that are silently dropped."""
    manifest = flickr8k.read(write_flickr8k(tmp_path / "corpus", train=1, dev=1, test=1))
    first = manifest.split("test")[0]
    manifest.path(first.audio).write_bytes(b"not a recording")
    model = small_model("speechclip_cascaded")
    with pytest.raises(AudioError, match="cannot be decoded"):
        decode(model, manifest)
    decoded, trial = decode(model, manifest, skip_broken=True)
    assert len(decoded) == 4
    assert trial.notes == ["test: left out 1 recordings that cannot be read"]
    alone = replace(manifest, utterances=(first,))
    with pytest.raises(CorpusError, match="no recording of split 'test' can be read"):
        decode(model, alone, skip_broken=True)


def test_a_model_without_keywords_is_named() -> None:
    with pytest.raises(ConfigError, match="speechclip_parallel names no keywords: expected"):
        require_keywords(small_model("speechclip_parallel"))


def test_even_places() -> None:
    assert evenly(10, 4) == {0, 2, 5, 7}
    assert evenly(3, 9) == {0, 1, 2}
    assert evenly(5, 0) == frozenset()


HOSTILE = 'A </script><script>document.title="stolen"</script> & "dog" .'


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A corpus with word times; a recording is in German, one has no caption, some odd ones."""
    root = write_flickr8k(tmp_path_factory.mktemp("corpus") / "flickr8k", train=1, dev=1, test=3)
    read = flickr8k.read(root)
    words = (Word("A", 0.02, 0.1), Word("picture", 0.1, 0.28))
    utterances = [replace(u, words=words) for u in read.utterances]
    test = [i for i, u in enumerate(utterances) if u.split == "test"]
    utterances[test[0]] = replace(utterances[test[0]], caption=HOSTILE, text=HOSTILE)
    utterances[test[1]] = replace(utterances[test[1]], language="de", text="Ein Bild")
    utterances[test[2]] = replace(utterances[test[2]], caption="", text="")
    utterances[test[3]] = replace(utterances[test[3]], caption="!", text="!")
    return replace(read, utterances=tuple(utterances))


def decoded(manifest: Manifest, model: SpeechClip) -> dict[str, list[Decoded]]:
    return {"test": decode(model, manifest, 20)[0]}


def measured(manifest: Manifest, model: SpeechClip) -> TaskResult:
    return evaluate(model, "keywords", corpus=manifest, batch_size=4, plot=20)


def test_every_figure_is_there_and_consistent(manifest: Manifest, tmp_path: Path) -> None:
    """Guards the result: English apart from other languages, CIF per keyword, times where known."""
    model = small_model("speechclip_plus")
    found = measured(manifest, model)
    metrics = found.metrics["test"]
    assert metrics["recordings"] == 3 * CAPTIONS - 2
    assert metrics["recordings_without_caption"] == 1
    assert metrics["by_language"]["de"]["recordings"] == 1
    assert metrics["timed_recordings"] == 3 * CAPTIONS - 1
    assert "per_slot" not in metrics["with_stop_words"]["hit_rate"]
    assert {"20ms", "50ms"} == metrics["boundaries"].keys()
    fired = [
        len(one.token_ids)
        for one in decoded(manifest, model)["test"]
        if one.utterance.language == "en" and one.utterance.caption
    ]
    assert metrics["counts"]["keywords"] == pytest.approx(np.mean(fired), abs=1e-4)
    assert sum(count for _, count in metrics["frequent"]) == sum(fired)
    assert read_result(write_result(found, tmp_path / "r.json")).task == "keywords"


def test_fixed_keywords_have_a_rate_a_slot(manifest: Manifest) -> None:
    """Guards SpeechCLIP's form: the mean is that of the slots; no times are claimed."""
    metrics = measured(manifest, small_model("speechclip_hybrid")).metrics["test"]
    rates = metrics["with_stop_words"]["hit_rate"]
    assert len(rates["per_slot"]) == 3
    assert rates["mean"] == pytest.approx(np.mean(rates["per_slot"]), abs=1e-3)
    assert "boundaries" not in metrics


def test_a_corpus_without_captions_is_one_line(manifest: Manifest) -> None:
    """Guards against figures over nothing."""
    silent = replace(
        manifest,
        utterances=tuple(replace(u, language="de", caption="") for u in manifest.utterances),
    )
    with pytest.raises(CorpusError, match="no recording of split 'test' is in English"):
        measured(silent, small_model("speechclip_cascaded"))


CHECKS = """
const shown = () => [...document.querySelectorAll("article")].filter(a => !a.hidden).length;
const say = (id, value) => {
  const field = document.getElementById(id);
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
};
const found = {title: document.title, all: shown()};
found.groups = [...document.querySelectorAll("section")].map(group => [
  group.querySelector("h2").textContent, group.querySelectorAll("article").length]);
found.cannot = document.getElementById("cannot").textContent;
found.marked = [...document.querySelectorAll("section:first-child mark")].map(m => m.textContent);
found.pictures = await Promise.all([...document.querySelectorAll("article img")].map(
  image => image.decode().then(() => image.naturalWidth)));
found.wide = document.documentElement.scrollWidth > innerWidth;
say("search", "number 4"); found.searched = shown();
say("search", "no such thing"); found.nothing = shown();
say("search", ""); say("hits", true); found.hits = shown();
say("hits", false); say("order", "hits");
found.sorted = [...document.querySelectorAll("section")].every(group => {
  const shares = [...group.querySelectorAll("article")].map(a => {
    const [hit, all] = a.querySelector(".about span:last-child").textContent.match(/\\d+/g);
    return hit / all;
  });
  return shares.every((share, i) => !i || share <= shares[i - 1]);
});
say("order", "given");
const first = document.querySelectorAll("section")[1].querySelector("article");
found.captions = [...document.querySelectorAll("h3")].map(title => title.textContent);
found.bands = first.querySelectorAll(".span").length;
found.chips = first.querySelectorAll("li").length;
found.neighbours = first.querySelectorAll("li:first-child :is(b, span)").length;
found.words = [...first.querySelectorAll("svg text")].map(t => t.textContent);
found.alpha = first.querySelectorAll(".alpha").length;
found.count = document.getElementById("count").textContent;
first.querySelector(".span").dispatchEvent(new MouseEvent("mouseenter"));
found.lit = first.querySelectorAll(".on").length;
const audio = first.querySelector("audio");
audio.preload = "metadata";
found.seconds = await new Promise(resolve => {
  audio.addEventListener("loadedmetadata", () => resolve(audio.duration));
  audio.addEventListener("error", () => resolve("cannot be played"));
  audio.load();
});
return found;
"""


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_shows_filters_and_plays(width: int, manifest: Manifest, tmp_path: Path) -> None:
    """Guards the page in a real browser, at the width of a desktop and of a telephone: its groups
    and pictures, its controls, sound, and hostile text."""
    model = small_model("speechclip_plus")
    decodings, page = decoded(manifest, model), tmp_path / "page.html"
    result = measured(manifest, model)
    english = [one for one in decodings["test"] if one.language == "en" and one.caption]
    dog = encode("dog")[0]  # HOSTILE's, which is then all that is named
    english[0] = replace(english[0], token_ids=(dog,) * len(english[0].token_ids))
    near = nearest_tokens(model) | {dog: (dog,)}
    write_page(result, {"test": english}, near, manifest, page, 4)
    found = open_page(page, CHECKS, width=width)
    assert found.console_errors == ()
    value = found.value
    best, drawn, failed = (chosen for _, chosen in choose(english, near, 4))
    assert value["title"] == "Keywords of speechclip_plus (custom) on own (Flickr8k layout)"
    assert value["groups"] == [
        ["What it can do", len(best)],
        ["A random draw", 4],
        ["Failures", len(failed)],
    ]
    assert value["all"] == len(value["pictures"]) == len(best) + 4 + len(failed)
    assert value["captions"] == [one.caption for one in (*best, *drawn, *failed)]
    assert value["marked"] == [word for one in best for word in sorted(named_words(one))]
    assert set(value["pictures"]) == {48}
    assert "no keyword names" in value["cannot"] and "in other languages (de)" in value["cannot"]
    assert not value["wide"]
    assert 0 < value["searched"] < value["all"]
    assert value["nothing"] == 0
    assert value["hits"] < value["all"]
    assert value["sorted"]
    first = drawn[0]
    assert value["bands"] == value["chips"] == len(first.token_ids)
    assert value["words"] == ["A", "picture"]
    assert value["alpha"] == 1
    assert value["count"] == f"{value['all']} of {value['all']} recordings"
    assert value["lit"] == 2
    assert value["seconds"] == pytest.approx(first.duration, abs=0.05)
    text = page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text  # nothing to fetch; the page's own policy forbids it as well


def test_what_is_shown_is_what_its_group_says(manifest: Manifest) -> None:
    """Guards the page's groups: the best named first, failures without a hit, the draw honest."""
    plain = manifest.split("test")[4]
    dog, cat, the, red = (encode(word)[0] for word in ("dog", "cat", "the", "red"))
    near = {token: (token,) for token in (dog, cat, the, red)}

    def one(caption: str, *token_ids: int) -> Decoded:
        utterance = replace(plain, caption=caption, text=caption)
        return Decoded(utterance=utterance, frames=9, token_ids=token_ids)

    both, half = one("The dog and the cat.", cat, dog), one("A red dog.", dog, cat)
    single, missed = one("A dog!", dog, dog), one("A cat.", the, red)
    again, empty = one("The dog.", dog, the), one("The.", the)
    ones = [missed, half, single, empty, again, both]
    (good, best), (everything, drawn), (bad, failed) = choose(ones, near, 0)
    assert (good, everything, bad) == (3, 6, 1) and not best + drawn + failed
    groups = [choose([*ones, *[missed] * 94], near, count) for count in (2, 3)]
    for (_, best), (_, drawn), (_, failed) in groups:
        assert all(o is missed for o in (*drawn, *failed))
        assert best[:2] == [both, single]  # not `again`, which names the same
        assert len(drawn) == len(failed) and len(best) == 2


def test_tokens_for_people() -> None:
    assert token_text(encode("dog")[0]) == "dog"
    assert token_text(encode("woodpeckers")[0]).endswith("-")
    assert token_text(49406) == "(49406)"


def test_placement_of_known_cases() -> None:
    """Guards what says that a norm works: tokens among themselves, and tokens moved and shrunk."""
    tokens = np.random.default_rng(0).normal(size=(300, 8)) * np.arange(8, 0, -1)
    components = principal_components(tokens)
    same = placement(tokens, tokens, components)
    assert (same["spread"], same["shift"], same["norm"]) == (1.0, 0.0, 1.0)
    assert same["explained_by_plane"] == pytest.approx(same["own_plane"])
    small = placement(tokens / 2, tokens, components)
    assert small["spread"] == pytest.approx(0.5)


def test_kept_hidden_states_give_what_recordings_give(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the table of many runs: both benchmarks may read hidden states from the cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    model = small_model("speechclip_hybrid_plus", batch_invariant=True)
    for task, options in (("retrieval", {}), ("keywords", {"plot": 0})):
        read, kept = (
            evaluate(model, task, corpus=manifest, batch_size=4, keep_states=keep, **options)
            for keep in (False, True)
        )
        assert kept.metrics == read.metrics
        assert "hidden_states" in kept.protocol and "hidden_states" not in read.protocol


def test_the_plot_is_a_picture_and_the_same_every_time(manifest: Manifest, tmp_path: Path) -> None:
    """Guards the plot: a panel with and one without norm, deterministic, figures beside it."""
    model = small_model("speechclip_hybrid")
    decodings = decoded(manifest, model)
    found = keyword_placement(model, decodings["test"])
    plot_keywords(model, decodings, tmp_path / "a.png")
    plot_keywords(model, decodings, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    width, height = Image.open(tmp_path / "a.png").size
    assert width > 2 * height
    assert found["keywords"]["number"] == 3 * 3 * CAPTIONS
    assert found["tokens"]["number"] == len(model.clip.vocabulary) - 3
    assert found["keywords"]["shift"] < found["without_norm"]["shift"]


def test_the_command_writes_result_page_and_plot(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards `run_benchmark.py keywords`: its three files, and its last line."""
    corpus = write_flickr8k(tmp_path / "flickr8k", train=1, dev=1, test=2)
    small_model("speechclip_plus").save_pretrained(tmp_path / "model")
    out = tmp_path / "result.json"
    options = f"-k {tmp_path}/model --data flickr8k --data-root {corpus} --out {out}"
    assert main(["keywords", *options.split()]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == str(out)
    assert any("no stop words" in line for line in said)
    metrics = json.loads(out.read_text())["metrics"]["test"]
    assert metrics["embeddings"]["keywords"]["number"] > 0
    assert out.with_suffix(".html").is_file()
    assert out.with_suffix(".png").is_file()


def test_a_split_whose_plotted_recordings_are_broken_has_no_plot(tmp_path: Path) -> None:
    """Guards against a traceback once the whole split was decoded."""
    manifest = flickr8k.read(write_flickr8k(tmp_path / "corpus", train=1, dev=1, test=1))
    manifest.path(manifest.split("test")[0].audio).write_bytes(b"not a recording")
    options = {"corpus": manifest, "skip_broken": True, "plot": 1}
    found = evaluate(small_model("speechclip_cascaded"), "keywords", **options)
    assert "embeddings" not in found.metrics["test"]
