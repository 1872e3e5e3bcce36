"""The cache of a frozen speech encoder's hidden states."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_corpus import write_flickr8k
from small_models import FAMILIES, SPEECH

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.batches import collate_speech
from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.data.corpora import load_corpus
from s3prl_speechclip.data.feature_store import FeatureFolder, FeatureStore, stored
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders import speech_features as features
from s3prl_speechclip.encoders.speech import SpeechEncoder, build_speech_encoder
from s3prl_speechclip.encoders.speech_features import cached_features
from s3prl_speechclip.errors import AudioError, ConfigError, EncoderError
from s3prl_speechclip.model.config import SpeechEncoderConfig

SPLITS = ("train", "dev")
DERIVED = ("format", "precision")


def cached(model: SpeechEncoder, manifest: Manifest, **options: object) -> dict[str, FeatureStore]:
    return cached_features(model, manifest, SPLITS, batch_size=4, show_progress=False, **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flickr8k(tmp_path_factory.mktemp("flickr8k"), train=2, dev=1, test=1)


@pytest.fixture
def manifest(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The corpus, and an empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return load_corpus("flickr8k", root=corpus)


def encoder(seed: int = 0, **changes: object) -> SpeechEncoder:
    """A frozen encoder, whose features depend on padding unless it is batch-invariant."""
    torch.manual_seed(seed)
    invariant = bool(changes.pop("batch_invariant", True))
    config = SpeechEncoderConfig(
        pretrained=False, architecture={**SPEECH, **FAMILIES["hubert-base"]}, **changes
    )
    return build_speech_encoder(config, batch_invariant=invariant).eval()


def kept() -> int:
    """Number of recordings in the store."""
    return sum(
        len(FeatureFolder({k: v for k, v in found.about.items() if k not in DERIVED}, "float16"))
        for found in stored()
    )


def test_cached_states_are_those_of_each_recording_alone(manifest: Manifest) -> None:
    """Guards against padding, another row or another layer in the cache.

    float16 rounds by 2^-11 of a value; batched and alone differ by 1e-5.
    """
    model = encoder()
    stores = cached(model, manifest)
    assert set(stores) == {"train", "dev"}
    for split, store in stores.items():
        utterances = manifest.split(split)
        assert len(store) == len(utterances)
        for n, utterance in enumerate(utterances):
            waveform = torch.from_numpy(read_audio(manifest.path(utterance.audio)))
            alone = model(collate_speech([waveform]))
            found = store.read(n)
            assert found is not None and found.shape[1] == int(alone.lengths[0])
            torch.testing.assert_close(
                found.float(), torch.cat(alone.hidden_states), rtol=2**-11, atol=2e-5
            )


def test_features_are_computed_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against minutes of encoding at the start of every run."""
    model = encoder()
    cached(model, manifest)
    monkeypatch.setattr(model, "_encode", lambda speech: pytest.fail("encoded again"))
    assert cached(model, manifest)


def test_another_encoder_or_recording_has_other_features(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against the features of another run's encoder, or of a file that was replaced."""
    cached(encoder(), manifest)
    first = kept()
    cached(encoder(seed=1), manifest)
    cached(encoder(normalize_waveform=True), manifest)
    assert kept() == 3 * first and len(stored()) == 3

    root = shutil.copytree(manifest.root, tmp_path / "changed", copy_function=shutil.copyfile)
    moved = replace(manifest, root=root)
    with monkeypatch.context() as patched:
        patched.setattr(SpeechEncoder, "_encode", lambda *_: pytest.fail("encoded again"))
        stores = cached(encoder(), moved)
    changed, other = (moved.path(u.audio) for u in moved.split("train")[:2])
    changed.write_bytes(other.read_bytes())
    after = cached(encoder(), moved)["train"]
    assert torch.equal(after.read(0), stores["train"].read(1)) and kept() == 3 * first


def test_an_interrupted_computation_goes_on(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against half a split that is taken for a whole one, or is computed again."""
    model, calls = encoder(), []
    whole = cached(encoder(), manifest)["train"]
    shutil.rmtree(stored()[0].path)
    compute = model._encode

    def stop(speech):
        calls.append(speech)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(speech)

    monkeypatch.setattr(model, "_encode", stop)
    with pytest.raises(KeyboardInterrupt):
        cached(model, manifest)
    assert kept() == 4
    again = cached(model, manifest)["train"]
    for n in range(len(whole)):
        assert torch.equal(whole.read(n), again.read(n))


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"trainable": True}, "trainable=false"), ({"batch_invariant": False}, "batch_invariant")],
)
def test_what_changes_from_batch_to_batch_is_not_cached(
    manifest: Manifest, changes: dict, key: str
) -> None:
    """Guards base and large, trained as published, and encoders that learn."""
    model = encoder(**changes)
    assert cached(model, manifest) == {}
    with pytest.raises(ConfigError, match=key):
        cached(model, manifest, when="on")
    assert not kept()


def test_what_is_too_large_is_kept_only_when_asked_for(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a user's disk, and the estimate: it is of the size that is written."""
    stores = cached(encoder(), manifest)
    files = (tmp_path / "cache" / "features").glob("*/*.bin")
    written = sum(path.stat().st_size for path in files)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(features, "LIMIT", written - 1)
    assert cached(encoder(), manifest) == {}
    monkeypatch.setattr(features, "LIMIT", written)
    assert cached(encoder(), manifest).keys() == stores.keys()
    monkeypatch.setattr(features, "LIMIT", 0)
    assert cached(encoder(), manifest, when="on").keys() == stores.keys()
    assert cached(encoder(), manifest, when="off") == {}


def test_states_beyond_half_precision_are_not_kept(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against infinities that training would meet as NaN."""
    model = encoder()
    with torch.no_grad():
        model.model.encoder.layers[-1].final_layer_norm.weight.fill_(1e6)
    with caplog.at_level(logging.WARNING):
        assert cached(model, manifest) == {}
    assert "float16" in caplog.text
    with pytest.raises(EncoderError, match="cache_features=off"):
        cached(model, manifest, when="on")
    assert not kept()


def test_a_broken_recording_is_named_or_left_out(manifest: Manifest, tmp_path: Path) -> None:
    """Guards `--skip-broken`: the rest of the split keeps its places."""
    root = shutil.copytree(manifest.root, tmp_path / "broken")
    broken = replace(manifest, root=root)
    path = broken.path(broken.split("train")[3].audio)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(AudioError, match=path.name):
        cached(encoder(), broken)
    store = cached(encoder(), broken, skip_broken=True)["train"]
    readable = [store.read(n) is not None for n in range(len(store))]
    assert readable == [n != 3 for n in range(len(store))]
    sound = cached(encoder(), manifest)["train"]
    last = len(store) - 1
    torch.testing.assert_close(store.read(last), sound.read(last), rtol=2**-9, atol=1e-4)
