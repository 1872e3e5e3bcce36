"""Pictures whose names are read aloud."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from s3prl_speechclip.data.audio import read_audio
from s3prl_speechclip.data.images import open_image
from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.minis import debian
from s3prl_speechclip.minis.pictures import CARDS, EMOJI_FONT, EMOJI_NAMES, FONT, NAMES, WORD_CARDS
from s3prl_speechclip.minis.sets.named_pictures import FAMILIAR, OTHERS, build
from s3prl_speechclip.minis.synthesis.voices import HELD_OUT_VOICES, VOICES

from .conftest import MakeDeb

ROW = '<ldml><annotations><annotation cp="🦓" type="tts">zebra</annotation></annotations></ldml>'


def star(colour: str) -> Image.Image:
    image = Image.new("RGB", (60, 60), "white")
    ImageDraw.Draw(image).pieslice((5, 5, 55, 55), 20, 300, fill=colour)
    return image


@pytest.fixture
def archive(tmp_path: Path, make_deb: MakeDeb) -> Path:
    """Packages with a zebra and two word cards."""
    font = debian.packages([EMOJI_FONT])[0].root / FONT
    names = {name: ROW.encode() for name in NAMES}
    cards = {}
    for name, colour in (("cow", "red"), ("pig", "blue")):
        star(colour).save(tmp_path / f"{name}.jpg", quality=95)
        cards[f"{CARDS}/animals/{name}.jpg"] = (tmp_path / f"{name}.jpg").read_bytes()
    make_deb({FONT: font.read_bytes()}, name=EMOJI_FONT, compression="gz")
    make_deb(names, name=EMOJI_NAMES, compression="gz")
    return make_deb(cards, name=WORD_CARDS, compression="gz").parent


def test_names_are_read_and_held_out_pictures_left_out(tmp_path: Path, archive: Path):
    """Guards the pairs: a recording says the name of its picture, and no picture is a copy of one
    that retrieval is tested on."""
    star("blue").resize((90, 90)).save(tmp_path / "held_out.png")
    folder = tmp_path / "corpus"
    folder.mkdir()
    build(folder, [tmp_path / "held_out.png"], archive)
    manifest = Manifest.load(folder / "manifest.jsonl")
    assert {u.caption for u in manifest.utterances} == {"zebra", "cow"}
    assert "1 that look like a stamp" in manifest.notes[0]
    zebras = [u for u in manifest.utterances if u.caption == "zebra"]
    assert [u.text for u in zebras] == ["zebra"] * (FAMILIAR + OTHERS)
    speakers = {u.speaker for u in zebras}
    assert len(speakers & VOICES.keys()) == FAMILIAR
    assert len(speakers - VOICES.keys()) == OTHERS
    assert len({u.pair_id for u in zebras}) == 1
    assert not {u.speaker for u in manifest.utterances} & HELD_OUT_VOICES.keys()
    for utterance in manifest.utterances:
        seconds = len(read_audio(manifest.path(utterance.audio))) / 16_000
        assert seconds == pytest.approx(utterance.duration, abs=1e-4)
        assert [word.text for word in utterance.words] == [utterance.text]
        assert 0 <= utterance.words[0].start < utterance.words[0].end <= seconds
        assert open_image(manifest.path(utterance.image)).size[0] > 16


def test_training_on_another_corpus_as_well(tmp_path: Path):
    """Guards pairs against running together: ids of one corpus must not be those of another."""

    def corpus(name: str) -> Manifest:
        utterance = Utterance(
            utterance_id="a", audio="a.wav", image="a.png", pair_id=0, text="a", split="train"
        )
        return Manifest(corpus=name, root=tmp_path / name, utterances=(utterance,))

    both = corpus("one").train_also(corpus("two"))
    first, second = both.split("train")
    assert first.pair_id != second.pair_id
    assert both.path(second.audio).resolve() == (tmp_path / "two" / "a.wav").resolve()
    assert both.corpus == "one" and "1 recordings of two" in both.notes[0]
