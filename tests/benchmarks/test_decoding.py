"""What a model decodes: neighbours, attention and segments against direct computation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import write_flickr8k
from small_models import small_model, speech_batch

from s3prl_speechclip.benchmarks.shared.benchmark import Trial, request
from s3prl_speechclip.benchmarks.shared.decoding import (
    Decoded,
    attention_segments,
    decode_split,
    evenly,
    nearest_tokens,
    require_keywords,
)
from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS
from s3prl_speechclip.errors import AudioError, ConfigError, CorpusError
from s3prl_speechclip.model.config import KeywordConfig
from s3prl_speechclip.model.speechclip import SpeechClip


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
