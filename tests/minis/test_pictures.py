"""Pictures with words: what is taken from the packages, how it is drawn, how copies are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from s3prl_speechclip.errors import ImageError
from s3prl_speechclip.minis import debian, pictures
from s3prl_speechclip.minis.making import Drawing, draw, draw_glyph, draw_svg
from s3prl_speechclip.minis.pictures import copies, fingerprint
from s3prl_speechclip.minis.training.clip_data import load_pictures

TITLED = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'width="9" height="9"><dc:title>{}</dc:title><rect width="5" height="5"/></svg>'
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" {}><rect width="50%" height="50%"/></svg>'


@pytest.fixture(scope="module")
def packages() -> Mapping[str, debian.Package]:
    """The packages of emoji and word cards, fetched once into the user's cache."""
    names = (pictures.EMOJI_FONT, pictures.EMOJI_NAMES, pictures.WORD_CARDS)
    return {package.name: package for package in debian.packages(names)}


@pytest.fixture(scope="module")
def font(packages: Mapping[str, debian.Package]) -> Path:
    return packages[pictures.EMOJI_FONT].root / pictures.FONT


def test_pictures_have_their_names_and_keywords(packages: Mapping[str, debian.Package]):
    """Guards the pairing of drawing and name, and against flags and skin tones."""
    cards = {draft.name: draft for draft in pictures.read_word_cards(packages)}
    assert cards["body/belly_button"].captions == ("belly button",)
    assert cards["animals/zebra"].tags == ("animal",)
    assert len(cards) > 500
    found = {draft.text: draft for draft in pictures.read_emoji(packages)}
    assert found["🦓"].captions == ("zebra",)
    assert "stripe" in found["🦓"].tags
    assert found["🪅"].captions == ("pinata",)
    assert not {"🇫🇷", "👍🏽", "{"} & found.keys()
    assert len({draft.name for draft in found.values()}) == len(found)


def test_an_emoji_is_one_glyph_in_colour(font: Path):
    """Guards joined emoji: two glyphs side by side would be a picture of the first."""
    firefighter, person = draw_glyph(font, "🧑\u200d🚒"), draw_glyph(font, "🧑")
    assert np.asarray(firefighter).std(axis=2).max() > 20
    assert np.abs(np.asarray(firefighter, float) - np.asarray(person, float)).mean() > 5


def test_what_the_font_lacks_is_blank(tmp_path: Path, font: Path):
    """Guards against pictures of the missing-glyph box."""
    (made,) = draw([Drawing("a.png", font, "字")], tmp_path)
    assert made.blank and not made.fault


def test_clip_art_goes_by_title_and_keywords_without_names_of_people(tmp_path: Path):
    """Guards the words that a drawing is paired with."""
    folder = tmp_path / pictures.DRAWINGS / "animals"
    folder.mkdir(parents=True)
    about = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/"
      xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><dc:title>{}</dc:title>
      <dc:creator>Ann Other</dc:creator>
      <rdf:li>big_cat</rdf:li><rdf:li>ann other</rdf:li><rdf:li>hash</rdf:li></svg>"""
    (folder / "a.svg").write_text(about.format("A tiger"))
    (folder / "b.svg").write_text(about.format("Clipart by Ann Other - tiger 12"))
    (folder / "c.svg").write_text("<svg")
    a, b, c = pictures.read_clip_art({pictures.CLIP_ART: debian.Package("clip art", "1", tmp_path)})
    assert (a.captions, a.tags) == (("A tiger",), ("big cat",))
    assert (b.captions, b.tags) == ((), ("big cat",))
    assert draw([Drawing("c.png", c.file)], tmp_path)[0].fault  # named, not silently dropped


def test_a_drawing_is_small_whatever_it_asks_for(tmp_path: Path):
    """Guards memory: some drawings ask for a gigabyte of pixels."""
    path = tmp_path / "a.svg"
    for size in ('width="9e5" height="3e5"', 'width="20" height="9000"', ""):
        path.write_text(SVG.format(size))
        assert max(draw_svg(path, 256).size) <= 256
    path.write_text("no drawing")
    with pytest.raises(ImageError, match="cannot draw"):
        draw_svg(path, 256)


def shape(size: int, colour: str, margin: int = 0) -> Image.Image:
    image = Image.new("RGB", (size + 2 * margin, size + 2 * margin), "white")
    box = (margin, margin, margin + size, margin + size)
    ImageDraw.Draw(image).pieslice(box, 20, 300, fill=colour)
    return image


def test_copies_are_found_in_another_size_and_place():
    """Guards held-out pictures against being trained on under another name."""
    originals = np.stack([fingerprint(shape(300, "red")), fingerprint(shape(40, "white"))])
    others = [shape(90, "red", margin=30), shape(300, "blue"), Image.new("RGB", (9, 9), "white")]
    thin = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(thin).line((0, 0, 200, 200), fill="black")
    prints = np.stack([fingerprint(image) for image in (*others, thin)])
    assert copies(prints, originals).tolist() == [True, False, False, False]


def test_pictures_are_prepared_from_packages_and_what_is_lost_is_counted(
    tmp_path: Path, empty_cache: Path, font: Path, make_deb: Callable[..., Path]
):
    """Guards the way from packages to the list, without a network."""
    annotations = (
        '<ldml><annotations><annotation cp="🦓">stripe | zebra</annotation>'
        '<annotation cp="🦓" type="tts">zebra</annotation>'
        '<annotation cp="字" type="tts">letter</annotation></annotations></ldml>'
    )
    shape(30, "red").save(tmp_path / "card.jpg")
    card = (tmp_path / "card.jpg").read_bytes()
    files = {
        pictures.EMOJI_FONT: {pictures.FONT: font.read_bytes()},
        pictures.EMOJI_NAMES: {name: annotations.encode() for name in pictures.NAMES},
        pictures.WORD_CARDS: {f"{pictures.CARDS}/animals/cow.jpg": card},
        pictures.CLIP_ART: {
            f"{pictures.DRAWINGS}/food/pie.svg": b"<svg",
            f"{pictures.DRAWINGS}/food/cake.svg": TITLED.format("A cake").encode(),
        },
    }
    for name, content in files.items():
        archive = make_deb(content, name=name, compression="gz")
    found, notes = load_pictures(archive.parent)
    assert [(p.source, p.captions) for p in found] == [
        ("emoji", ("zebra",)),
        ("word_cards", ("cow",)),
        ("clipart", ("A cake",)),
    ]
    assert all(p.file.is_file() for p in found)
    assert "1 pictures; left out 1 that cannot be drawn or are blank" in notes[-3]
    assert "1 pictures; left out 1 that cannot be drawn or are blank" in notes[-1]
    assert load_pictures(archive.parent) == (found, notes)
