"""The mini CLIP: what it reads, that it learns, and what the package ships of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from s3prl_speechclip.data.manifest import Manifest, Utterance
from s3prl_speechclip.encoders.clip import ClipEncoder, build_clip, load_shipped
from s3prl_speechclip.encoders.shipped import shipped_folder
from s3prl_speechclip.encoders.vocabulary import SPECIAL_TOKENS, decode, encode, find_vocabulary
from s3prl_speechclip.errors import EncoderError
from s3prl_speechclip.hashing import file_hash
from s3prl_speechclip.minis import debian
from s3prl_speechclip.minis.making import draw_glyph
from s3prl_speechclip.minis.pictures import EMOJI_FONT, FONT, Draft
from s3prl_speechclip.minis.training.clip import (
    ClipRecipe,
    class_prototypes,
    clip_vocabulary,
    ship_clip,
    train_clip,
    untrained_clip,
)
from s3prl_speechclip.minis.training.clip_data import (
    Batches,
    drawn_text,
    image_classes,
    name_groups,
    training_pictures,
)
from s3prl_speechclip.model.config import ClipConfig
from s3prl_speechclip.results import read_result

SHOWN = {
    "frog": "🐸",
    "bicycle": "🚲",
    "banana": "🍌",
    "umbrella": "☂️",
    "rooster": "🐓",
    "guitar": "🎸",
    "penguin": "🐧",
    "house": "🏠",
}
SHIPPED = ClipConfig(name="mini", pretrained="mini", vocabulary="mini", image_resize="longest")


def picture(name: str, file: Path = Path(), **about: object) -> Draft:
    return Draft(**{"source": "emoji", "name": name, "file": file, "captions": (name,), **about})


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emoji of some names, real ones."""
    folder = tmp_path_factory.mktemp("emoji")
    font = debian.packages([EMOJI_FONT])[0].root / FONT
    for name, text in SHOWN.items():
        draw_glyph(font, text).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def chosen(drawings: Path) -> list[Draft]:
    """The emoji to learn from, two of them the corpus', whose second one is held out."""
    frog, bicycle = (
        Utterance(
            utterance_id=name,
            audio="",
            image=f"{name}.png",
            pair_id=row,
            text=name,
            split=split,
            caption=f"A {name}.",
        )
        for row, (name, split) in enumerate((("frog", "train"), ("bicycle", "test_image")))
    )
    manifest = Manifest(corpus="stamps", root=drawings, utterances=(frog, bicycle))
    pictures = [picture(name, drawings / f"{name}.png") for name in SHOWN]
    found, notes = training_pictures(manifest, pictures)
    assert "left out: 1 pictures" in notes[-1]
    return found


def test_held_out_pictures_are_not_learned_from(chosen: list[Draft]):
    """Guards the split: a held-out picture comes back in other collections."""
    assert [p.name for p in chosen if p.source == "stamps"] == ["frog.png"]
    assert {p.file.stem for p in chosen} == SHOWN.keys() - {"bicycle"}


def test_what_shares_a_name_is_one_group():
    """Guards against contrasting a frog with another frog."""
    found = name_groups([("A frog.",), ("Frog", "toad"), ("the toad",), ("bird",)]).tolist()
    assert found == [0, 0, 0, 3]


def test_the_vocabulary_reads_names_and_letters():
    """Guards words that a picture is named by, and letters to spell others with."""
    described = [picture("zebra face", tags=("playoff",)), *image_classes()]
    vocabulary = clip_vocabulary(described)
    known = set(vocabulary.tolist())
    assert {*SPECIAL_TOKENS, *encode("zebra face tench x y z")} <= known
    assert not set(encode("playoff")) <= known
    assert len(known) == len(vocabulary)


def test_a_batch_is_a_function_of_the_step():
    """Guards resuming: an interrupted run sees what an uninterrupted one does."""
    pictures = [
        picture(f"thing {n}", source=source, tags=("a", "b"))
        for n, source in enumerate(["stamps"] * 5 + ["emoji"] * 9)
    ]
    named = torch.randn(14, 1000, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int, *steps: int) -> list[tuple]:
        batches = Batches(pictures, image_classes(), named, (8, 6), seed)
        return [(b.texts, b.rows.tolist(), b.classes.tolist()) for b in map(batches.batch, steps)]

    assert drawn(0, 3, 4) == [*drawn(0, 3), *drawn(0, 4)]
    assert drawn(0, 3) != drawn(0, 4) != drawn(1, 4)
    texts, rows, classes = drawn(0, 3)[0]
    assert len(texts) == len(rows) + len(classes) == 14
    assert len(set(classes)) == 6


def test_a_picture_without_captions_goes_by_its_tags():
    """Guards against empty texts, which would all be one."""
    about = picture("", captions=(), tags=("dog", "pet"))
    texts = {drawn_text(about, Random(n)) for n in range(60)}
    assert {"dog", "pet", "dog pet", "pet dog"} <= texts
    assert all(texts)


def test_prototypes_are_class_means_where_the_model_holds():
    """Guards the algebra: normal classes of one covariance, their best classifier's weights."""
    random_numbers = torch.Generator().manual_seed(0)
    means = 4 + torch.randn(5, 6, generator=random_numbers)
    mixing = 0.3 * torch.eye(6) + 0.05 * torch.randn(6, 6, generator=random_numbers)
    noise = torch.randn(5, 4000, 6, generator=random_numbers) @ mixing
    weight = (means - means.mean(0)) @ (mixing.T @ mixing).inverse()
    # The pictures at hand are of other classes; all that is taken from them is mean and spread.
    features = (noise + means.mean(0)).flatten(0, 1)
    torch.testing.assert_close(class_prototypes(features, weight), means, atol=0.1, rtol=0)


@pytest.fixture(scope="module")
def learned(chosen: list[Draft], tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    """The mini CLIP after it learned the names of seven emoji."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = ClipRecipe(steps=30, batch_size=8, classes=8)
        return train_clip(chosen, tmp_path_factory.mktemp("run"), recipe, device="cpu")


def found_by_name(encoder: ClipEncoder, folder: Path) -> int:
    """Count the emoji, of those trained on, that their name finds among all."""
    names = sorted(SHOWN.keys() - {"bicycle"})
    transform = encoder.preprocess()
    pixels = torch.stack([transform(Image.open(folder / f"{name}.png")) for name in names])
    with torch.no_grad():
        scores = encoder.encode_text(names) @ encoder.encode_images(pixels).T
    return int((scores.argmax(1) == torch.arange(len(names))).sum())


def test_it_learns_what_pictures_show(learned: ClipEncoder, drawings: Path):
    """Guards objective and loop: names find their pictures, as they did not before."""
    before = untrained_clip(learned.vocabulary).eval()
    assert found_by_name(learned, drawings) >= 6 > found_by_name(before, drawings)


def test_what_is_shipped_reads_as_what_was_trained(learned: ClipEncoder, tmp_path: Path):
    """Guards the folder: half precision, trunk from its package, vocabulary inside."""
    folder = ship_clip(learned, tmp_path / "clip")
    found = load_shipped(folder)
    assert torch.equal(found.vocabulary, learned.vocabulary)
    texts, pixels = ["a frog", "green umbrella"], torch.randn(1, 3, 224, 224)
    # float16 keeps 11 bits of a weight.
    for one, other in (
        (found.encode_text(texts), learned.encode_text(texts)),
        (found.encode_images(pixels), learned.encode_images(pixels)),
    ):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)
    assert not [n for n, p in found.named_parameters() if p.requires_grad]
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="damaged"):
        load_shipped(folder)


@pytest.fixture(scope="module")
def shipped() -> ClipEncoder:
    return build_clip(SHIPPED, find_vocabulary("mini"))


def test_the_shipped_one_knows_words_and_pictures(shipped: ClipEncoder, drawings: Path):
    """Guards the shipped weights, their trunk and their transform, by what they know."""
    dog, puppy, truck = shipped.encode_text(["a dog", "a puppy", "a fire truck"])
    assert dog @ puppy > dog @ truck
    assert found_by_name(shipped, drawings) >= 6


def test_the_shipped_weights_are_those_that_were_measured(root: Path):
    """Guards the card: figures of other weights than those beside it."""
    result = read_result(root / "benchmarks" / "results" / "mini" / "clip.json")
    folder = shipped_folder("clip")
    card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert result.checkpoint_hash == file_hash(folder / "model.safetensors")
    for split, found in result.metrics.items():
        figures = [found[name]["mean"]["recall@10"] for name in ("trained", "chance")]
        assert figures[0] > figures[1]
        assert f"| {split} ({found['images']} images) | {figures[0]:.1f} | {figures[1]:.1f}" in card


def test_a_part_of_the_vocabulary_is_enough(shipped: ClipEncoder):
    """Guards a quantiser that chooses from a corpus' tokens: rows follow their ids."""
    ids = dict.fromkeys([*encode("frog"), *shipped.vocabulary[:40].tolist(), *SPECIAL_TOKENS])
    part = torch.tensor(list(ids))
    few = build_clip(SHIPPED, part)
    torch.testing.assert_close(few.encode_text(["frog"]), shipped.encode_text(["frog"]))
    with pytest.raises(EncoderError, match="lacks 1 of the vocabulary"):
        build_clip(SHIPPED, torch.cat([part, torch.tensor(encode("transubstantiation")[:1])]))


def test_unknown_words_are_spelled(shipped: ClipEncoder, caplog: pytest.LogCaptureFixture):
    """Guards against words that silently count for nothing."""
    known = set(shipped.vocabulary.tolist())
    unknown = next(w for w in ("zymurgy", "quixotic") if not set(encode(w)) <= known)
    with caplog.at_level("WARNING"):
        rows, left_out = shipped._known_rows(unknown)
    assert not left_out and not caplog.text
    assert decode(shipped.original_ids(torch.tensor(rows))).replace(" ", "") == unknown
