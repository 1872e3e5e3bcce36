"""The word-by-word model: what its keywords are pooled from, and which segmenter holds where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import small_model, speech_batch, waveforms

from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import KeywordConfig, WordsConfig
from s3prl_speechclip.model.speechclip import SpeechClip
from s3prl_speechclip.modules.segments import FRAME
from s3prl_speechclip.structures import SAMPLE_RATE
from s3prl_speechclip.upstream.speechclip.expert import UpstreamExpert

WORDS = "speechclip_words"


def test_a_keyword_is_the_mean_of_its_words_frames() -> None:
    """Fault: pooling reads neighbours or padding; against a loop over frames."""
    words = WordsConfig(inference_segmenter="times")
    model = small_model(WORDS, words=words, keywords=KeywordConfig(norm="none"))
    times = torch.tensor([[[0.1, 0.3], [0.3, 0.5]], [[0.04, 0.2], [0.0, 0.0]]])
    samples = (times * SAMPLE_RATE).round().long()
    batch = replace(speech_batch(9_000, 4_000), words=samples)
    seen: list[torch.Tensor] = []
    model.branch.attention.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    output = model(batch)
    mixed = output.hidden_states[-1]
    for row, counts in enumerate((2, 1)):
        assert int(output.keywords.lengths[row]) == counts
        for place in range(counts):
            start, end = (round(float(t) / FRAME) for t in times[row, place])
            expected = mixed[row, start:end].mean(0)
            torch.testing.assert_close(seen[0][row, place], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.keywords.spans, times)


def test_attention_pooling_weighs_frames() -> None:
    """Fault: the learned scores change nothing; equal scores must be the mean."""
    learned = small_model(WORDS, words=WordsConfig(pooling="attention"))
    recordings = waveforms(9_000)
    found = learned.encode_speech(recordings).keywords.queries
    with torch.no_grad():
        learned.branch.pooling.weight.zero_()
    level = learned.encode_speech(recordings).keywords.queries
    mean = small_model(WORDS)
    mean.load_state_dict(learned.state_dict(), strict=False)
    torch.testing.assert_close(level, mean.encode_speech(recordings).keywords.queries)
    assert not torch.allclose(found, level)


def test_the_segmenter_is_chosen_where_a_model_is_loaded(tmp_path: Path) -> None:
    """Fault: the choice changes nothing, or is forgotten when the model is saved."""
    model = small_model(WORDS, words=WordsConfig(frames_per_word=5))
    model.save_pretrained(tmp_path / "own")
    chosen = SpeechClip.from_pretrained(tmp_path / "own", segmenter="windows")
    recording = waveforms(16_000)
    spans = chosen.encode_speech(recording).keywords.spans[0]
    torch.testing.assert_close(spans[:, 1] - spans[:, 0], torch.full((len(spans),), 0.098))
    assert not torch.equal(model.encode_speech(recording).keywords.spans[0], spans)
    upstream = UpstreamExpert(tmp_path / "own", {"segmenter": "windows"}, name=WORDS)
    assert torch.equal(upstream(recording)["keywords"].spans[0], spans)
    chosen.save_pretrained(tmp_path / "chosen")
    again = SpeechClip.from_pretrained(tmp_path / "chosen")
    assert again.config.words.at_inference == "windows"


@pytest.mark.parametrize(
    ("variant", "name", "message"),
    [
        (WORDS, "cif", "needs a model whose CIF was trained"),
        (WORDS, "window", "did you mean 'windows'"),
        ("speechclip_plus", "windows", "for speechclip_words, not for speechclip_plus"),
    ],
)
def test_a_segmenter_that_a_model_lacks_is_an_error(
    tmp_path: Path, variant: str, name: str, message: str
) -> None:
    """Fault: untrained CIF weights, or a mistyped name, give figures all the same."""
    small_model(variant).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        SpeechClip.from_pretrained(tmp_path, segmenter=name)
