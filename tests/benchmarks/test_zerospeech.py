"""The semantic score: as the official toolkit computes it, and chosen on dev alone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from small_models import small_model, waveforms

from s3prl_speechclip import evaluate
from s3prl_speechclip.benchmarks.formulas.semantic_scores import DISTANCES, type_mean
from s3prl_speechclip.benchmarks.shared.benchmark import request
from s3prl_speechclip.benchmarks.shared.encoding import find_source, spectral_source
from s3prl_speechclip.benchmarks.zerospeech import (
    SEARCHED_POOLINGS,
    Choice,
    measure,
    semantic_correlations,
    write_submission,
)
from s3prl_speechclip.cli.benchmark import main
from s3prl_speechclip.data.corpora.zerospeech import (
    NATURAL,
    SYNTHETIC,
    TYPES,
    Pair,
    Token,
    ZeroSpeech,
    load_semantic,
    read_gold,
)
from s3prl_speechclip.errors import CorpusError, ResultError
from s3prl_speechclip.results import read_result

GOLDEN = Path(__file__).parent / "zerospeech"
SMALL, MINI = GOLDEN / "small", GOLDEN / "mini"
WORDS = ("apple", "pear", "dog", "cat", "river", "stone")
NAN = float("nan")
Features = dict[str, dict[str, Any]]


def small_features() -> Features:
    found: Features = {}
    with np.load(SMALL / "features.npz") as arrays:
        for key in arrays:
            kind, name = key.split("/")
            found.setdefault(kind, {})[name] = arrays[key]
    return found


def mini_features() -> Features:
    found: Features = {}
    rows = np.load(MINI / "features.npy")
    for token, row in zip(read_gold(MINI / "gold.csv"), rows, strict=True):
        found.setdefault(token.type, {})[token.filename] = row[None]
    return found


@pytest.mark.parametrize(("folder", "features"), [(SMALL, small_features), (MINI, mini_features)])
def test_correlations_are_the_official_toolkits(folder: Path, features: Any) -> None:
    """Guards poolings, distances, which recordings are compared, and the sign, to 1e-6."""
    given = features()
    with open(folder / "official_scores.csv", encoding="utf-8", newline="") as handle:
        official = list(csv.DictReader(handle))
    assert len(official) == {SMALL: 48, MINI: 8}[folder]
    for row in official:
        found = semantic_correlations(
            given, folder / "gold.csv", folder / "pairs.csv", row["pooling"], row["metric"]
        )
        expected = float(row["correlation"])
        assert found[row["type"], row["dataset"]] == pytest.approx(expected, abs=1e-6), row


def test_means_weigh_datasets_as_they_say() -> None:
    """Guards the plain mean against weights, and the weighted one against none."""
    correlations = {(NATURAL, "a"): 10.0, (NATURAL, "b"): 40.0, (SYNTHETIC, "a"): 99.0}
    counts = {(NATURAL, "a"): 3, (NATURAL, "b"): 1, (SYNTHETIC, "a"): 7}
    assert type_mean(correlations, NATURAL) == pytest.approx(25.0)
    assert type_mean(correlations, NATURAL, counts) == pytest.approx(17.5)


def copy_small(folder: Path) -> tuple[Path, Path]:
    for name in ("gold.csv", "pairs.csv"):
        shutil.copy(SMALL / name, folder / name)
    return folder / "gold.csv", folder / "pairs.csv"


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda f: f["synthetic"].pop("S003"), "synthetic/S003"),
        (lambda f: f["synthetic"].update(S003=np.full((2, 6), NAN)), "synthetic/S003.*NaN"),
        (lambda f: f["synthetic"].update(S003=np.ones(6)), r"synthetic/S003.*\(6,\)"),
        (lambda f: f["synthetic"].update(S003=np.ones((2, 5))), "one width"),
        (lambda f: f["librispeech"].update(L000=np.zeros((2, 6))), "librispeech/L000"),
    ],
)
def test_bad_features_are_named(break_it: Any, named: str) -> None:
    """Guards against a score over fewer recordings than it says, or over what is no number."""
    features = small_features()
    break_it(features)
    with pytest.raises(ResultError, match=named):
        semantic_correlations(features, SMALL / "gold.csv", SMALL / "pairs.csv")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("synthetic,setA,apple,plum,5,", "plum"),
        ("synthetic,setA,apple,pear,,", "synthetic/setA"),
        ("synthetic,setC,apple,pear,5,", "synthetic/setC"),
        ("synthetic,setA,apple,pear,five,", "five"),
        ("spoken,setA,apple,pear,5,", "spoken"),
        ("synthetic,setA", "too few"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, line: str, named: str) -> None:
    """Guards against pairs that are dropped, or scored without a score."""
    gold, pairs = copy_small(tmp_path)
    pairs.write_text(pairs.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises((ResultError, CorpusError), match=named):
        semantic_correlations(small_features(), gold, pairs)


def test_unknown_poolings_and_distances_are_named() -> None:
    """Guards against a silent default."""
    with pytest.raises(ResultError, match="did you mean 'mean'"):
        semantic_correlations(small_features(), SMALL / "gold.csv", SMALL / "pairs.csv", "meen")
    with pytest.raises(ResultError, match="did you mean 'cosine'"):
        semantic_correlations(
            small_features(), SMALL / "gold.csv", SMALL / "pairs.csv", distance="cosin"
        )


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> ZeroSpeech:
    """A set in the official layout, whose words are chords; the voices play in other keys."""
    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    for split in ("dev", "test"):
        folder = root / "semantic" / split
        tokens, pairs = [], []
        for kind, voices in ((NATURAL, ("", "")), (SYNTHETIC, ("A", "B"))):
            (folder / kind).mkdir(parents=True)
            for place, word in enumerate(WORDS):
                for number, voice in enumerate(voices):
                    name = f"{word}-{number}"
                    tokens.append(Token(kind, name, word, voice))
                    length = int(random.integers(3000, 6000))
                    time = np.arange(length) / 16_000
                    pitch = (200 + 150 * place) * (1 + 0.05 * number)
                    wave = 0.3 * np.sin(2 * np.pi * pitch * time)
                    wave += 0.02 * random.standard_normal(length)
                    soundfile.write(folder / kind / f"{name}.wav", wave, 16_000)
            for a in range(len(WORDS)):
                for b in range(a):
                    score = round(float(random.uniform(0, 10)), 2)
                    pairs.append(Pair(kind, "near", WORDS[a], WORDS[b], score, NAN))
        pd.DataFrame(tokens).to_csv(folder / "gold.csv", index=False)
        pd.DataFrame(pairs).to_csv(folder / "pairs.csv", index=False)
    return load_semantic(root)


def all_features(data: ZeroSpeech, split: str) -> Features:
    source = spectral_source()
    found: Features = {kind: {} for kind in TYPES}
    for (kind, name), path in data.split(split).recordings().items():
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        ((layer,),) = source.encode([samples])
        found[kind][name] = layer.numpy()
    return found


def test_test_is_measured_with_what_is_best_on_dev(tones: ZeroSpeech) -> None:
    """Guards against reporting the best on test, and against another search than it says."""
    result, _ = measure(spectral_source(), tones, batch_size=4)
    dev, test = (tones.split(name) for name in ("dev", "test"))
    scores = {}
    for pooling in SEARCHED_POOLINGS:
        for distance in DISTANCES:
            found = semantic_correlations(
                all_features(tones, "dev"), dev.gold, dev.pairs, pooling, distance
            )
            scores[pooling, distance] = sum(found.values()) / len(found)
    best = max(scores, key=lambda key: scores[key])
    assert result.metrics["chosen"] == {"layer": 0, "pooling": best[0], "distance": best[1]}
    expected = semantic_correlations(all_features(tones, "test"), test.gold, test.pairs, *best)
    for kind in TYPES:
        # Pooled vectors are kept in single precision, and results to four decimals.
        assert result.metrics["test"][kind]["mean"] == pytest.approx(
            expected[kind, "near"], abs=1e-3
        )
    assert not result.mini


def test_a_recording_sounds_the_same_in_any_batch(tmp_path: Path) -> None:
    """Guards against features that depend on padding, and that keep frames of it."""
    small_model("speechclip_hybrid_plus").save_pretrained(tmp_path)
    source = find_source(request(tmp_path, "zerospeech"))
    short, long = waveforms(3000, 9000)
    (alone,), (together, _) = source.encode([short]), source.encode([short, long])
    assert len(alone) == len(together) > 2
    for a, b in zip(alone, together, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-5)


def test_a_submission_scores_as_its_result(tones: ZeroSpeech, tmp_path: Path) -> None:
    """Guards the files that the official toolkit reads: shape, type, names and parameters."""
    choice = Choice(0, "max", "euclidean")
    folder = tmp_path / "sent"
    write_submission(folder, spectral_source(), tones, choice)
    features: Features = {
        kind: {p.stem: np.load(p) for p in (folder / "semantic/test" / kind).iterdir()}
        for kind in TYPES
    }
    one = features[NATURAL]["apple-0"]
    assert one.dtype == np.float64 and one.ndim == 2
    split = tones.split("test")
    assert semantic_correlations(
        features, split.gold, split.pairs, "max", "euclidean"
    ) == semantic_correlations(
        all_features(tones, "test"), split.gold, split.pairs, "max", "euclidean"
    )
    parameters = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    assert parameters["semantic"]["metric"] == "euclidean"
    assert parameters["semantic"]["pooling"] == "max"
    assert parameters["syntactic"]["score_files_type"] == ".npy"
    meta = yaml.safe_load((folder / "meta.yaml").read_text(encoding="utf-8"))
    assert meta["benchmark_name"] == "sLM21"
    with pytest.raises(ResultError, match="not empty"):
        write_submission(folder, spectral_source(), tones, choice)


def test_the_command_line_measures_and_stores(
    tones: ZeroSpeech, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the last line on standard output, and the baseline's name."""
    out = tmp_path / "result.json"
    arguments = ["zerospeech", "-u", "log_mel", "--data-root", str(tones.root), "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out)
    assert "mini" not in printed[0]
    assert read_result(out).system == "log_mel"
    assert main([*arguments, "-u", "log_mell"]) == 2
    assert "did you mean 'log_mel'" in capsys.readouterr().err


def test_an_absent_recording_is_named(tones: ZeroSpeech, tmp_path: Path) -> None:
    """Guards against a gold file that names what is not there."""
    root = tmp_path / "copy"
    shutil.copytree(tones.root, root)
    (root / "semantic/test/synthetic/dog-1.wav").unlink()
    with pytest.raises(CorpusError, match="names 1 recordings.*dog-1.wav"):
        measure(spectral_source(), load_semantic(root))


def test_a_model_in_memory_scores_as_its_checkpoint(tones: ZeroSpeech, tmp_path: Path) -> None:
    """Guards `evaluate` of a model at hand, and its training mode."""
    model = small_model("speechclip_plus").train()
    model.save_pretrained(tmp_path)
    here = evaluate(model, "zerospeech", root=tones.root)
    there = evaluate(tmp_path, "zerospeech", root=tones.root)
    assert model.training
    assert here.metrics == there.metrics and here.system == there.system == "speechclip_plus"
    assert here.checkpoint == "in memory" and len(here.checkpoint_hash) == 64
