"""The mini CLIP: what it reads, that it learns, and what the package ships of it."""

from __future__ import annotations

import random
from pathlib import Path

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
from s3prl_speechclip.minis.pictures import EMOJI_FONT, FONT
from s3prl_speechclip.minis.training.clip import (
    ClipTrainingConfig,
    class_prototypes,
    clip_vocabulary,
    ship_clip,
    train_clip,
    untrained_clip,
)
from s3prl_speechclip.minis.training.clip_data import (
    BatchConfig,
    Batches,
    Example,
    image_classes,
    name_groups,
    picture_text,
    training_examples,
)
from s3prl_speechclip.minis.training.loop import LoopConfig
from s3prl_speechclip.model.config import ClipConfig
from s3prl_speechclip.results import read_result
from s3prl_speechclip.runtime.optimization import OptimizerConfig, SchedulerConfig

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
SHIPPED = ClipConfig(name="mini", pretrained="mini", vocabulary="mini")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emoji of some names, real ones."""
    folder = tmp_path_factory.mktemp("emoji")
    font = debian.packages([EMOJI_FONT])[0].root / FONT
    for name, text in SHOWN.items():
        draw_glyph(font, text).save(folder / f"{name}.png")
    return folder


def corpus(folder: Path) -> tuple[Manifest, list[Example]]:
    """Two of the emoji as a corpus, its second one held out, and all of them as other pictures."""
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
    pictures = [
        Example(source="emoji", image=folder / f"{name}.png", captions=(name,)) for name in SHOWN
    ]
    return Manifest(corpus="stamps", root=folder, utterances=(frog, bicycle)), pictures


def test_held_out_pictures_are_not_learned_from(drawings: Path):
    """Guards the split: a held-out picture comes back in other collections."""
    examples, notes = training_examples(*corpus(drawings))
    assert [e.image.stem for e in examples if e.source == "stamps"] == ["frog"]
    assert {e.image.stem for e in examples} == SHOWN.keys() - {"bicycle"}
    assert "left out: 1 pictures" in notes[-1]


def test_what_shares_a_name_is_one_group():
    """Guards against contrasting a frog with another frog."""
    found = name_groups([("A frog.",), ("Frog", "toad"), ("the toad",), ("bird",)]).tolist()
    assert found == [0, 0, 0, 3]


def test_the_vocabulary_reads_names_and_letters():
    example = Example(
        source="emoji", image=Path("a.png"), captions=("zebra face",), tags=("playoff",)
    )
    vocabulary = clip_vocabulary([example], image_classes())
    known = set(vocabulary.tolist())
    assert {*SPECIAL_TOKENS, *encode("zebra face tench x y z")} <= known
    assert not set(encode("playoff")) <= known
    assert len(known) == len(vocabulary)


def test_a_batch_is_a_function_of_the_step():
    """Guards resuming: an interrupted run sees what an uninterrupted one does."""
    examples = [
        Example(source=source, image=Path(f"{n}.png"), captions=(f"thing {n}",), tags=("a", "b"))
        for n, source in enumerate(["stamps"] * 5 + ["emoji"] * 9)
    ]
    named = torch.randn(14, 1000, generator=torch.Generator().manual_seed(0))
    config = BatchConfig(batch_size=8, classes=6)

    def drawn(seed: int, *steps: int) -> list[tuple]:
        batches = Batches(examples, image_classes(), named, config, seed)
        return [(b.texts, b.rows.tolist(), b.classes.tolist()) for b in map(batches.batch, steps)]

    assert drawn(0, 3, 4) == [*drawn(0, 3), *drawn(0, 4)]
    assert drawn(0, 3) != drawn(0, 4) != drawn(1, 4)
    texts, rows, classes = drawn(0, 3)[0]
    assert len(texts) == len(rows) + len(classes) == 14
    assert len(set(classes)) == 6


def test_a_picture_without_captions_goes_by_its_tags():
    example = Example(source="clipart", image=Path("a.png"), captions=(), tags=("dog", "pet"))
    texts = {picture_text(example, random.Random(n), BatchConfig(spelled=0)) for n in range(40)}
    assert {"dog", "pet", "dog pet", "pet dog"} <= texts
    assert all(texts)


def test_prototypes_are_class_means_where_the_model_holds():
    """Guards the algebra: normal classes of one covariance, their best classifier's weights."""
    random_numbers = torch.Generator().manual_seed(0)
    means = 4 + torch.randn(5, 6, generator=random_numbers)
    mixing = 0.3 * torch.eye(6) + 0.05 * torch.randn(6, 6, generator=random_numbers)
    noise = torch.randn(5, 4000, 6, generator=random_numbers) @ mixing
    covariance = mixing.T @ mixing
    weight = (means - means.mean(0)) @ covariance.inverse()
    # The pictures at hand are of other classes; all that is taken from them is mean and spread.
    features = (noise + means.mean(0)).flatten(0, 1)
    torch.testing.assert_close(class_prototypes(features, weight, 1.0), means, atol=0.1, rtol=0)


@pytest.fixture(scope="module")
def learned(
    drawings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClipEncoder, ClipEncoder]:
    """The mini CLIP before and after it learned the names of seven emoji."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3PRL_SPEECHCLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        loop = LoopConfig(
            total_steps=25,
            optimizer=OptimizerConfig(name="adamw", lr=1e-3),
            scheduler=SchedulerConfig(warmup_steps=3),
            precision="fp32",
        )
        config = ClipTrainingConfig(batches=BatchConfig(batch_size=8, classes=8), loop=loop)
        trained = train_clip(
            *corpus(drawings), tmp_path_factory.mktemp("run"), config, device="cpu"
        )
    return untrained_clip(trained.encoder.vocabulary).eval(), trained.encoder


def found_by_name(encoder: ClipEncoder, folder: Path) -> int:
    """Count the emoji, of those trained on, that their name finds among all."""
    names = sorted(SHOWN.keys() - {"bicycle"})
    transform = encoder.preprocess()
    pixels = torch.stack([transform(Image.open(folder / f"{name}.png")) for name in names])
    with torch.no_grad():
        scores = encoder.encode_text(names) @ encoder.encode_images(pixels).T
    return int((scores.argmax(1) == torch.arange(len(names))).sum())


def test_it_learns_what_pictures_show(learned: tuple[ClipEncoder, ClipEncoder], drawings: Path):
    """Guards objective and loop: names find their pictures, as they did not before."""
    before, after = (found_by_name(encoder, drawings) for encoder in learned)
    assert after >= 6 > before


def test_what_is_shipped_reads_as_what_was_trained(
    learned: tuple[ClipEncoder, ClipEncoder], tmp_path: Path
):
    """Guards the folder: half precision, trunk from its package, vocabulary inside."""
    trained = learned[1]
    found = load_shipped(ship_clip(trained, tmp_path / "clip"))
    assert torch.equal(found.vocabulary, trained.vocabulary)
    texts = ["a frog", "green umbrella"]
    # float16 keeps 11 bits of a weight.
    torch.testing.assert_close(
        found.encode_text(texts), trained.encode_text(texts), atol=5e-3, rtol=0
    )
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        found.encode_images(pixels), trained.encode_images(pixels), atol=5e-3, rtol=0
    )
    assert not [n for n, p in found.named_parameters() if p.requires_grad]


def test_a_damaged_folder_is_an_error(learned: tuple[ClipEncoder, ClipEncoder], tmp_path: Path):
    folder = ship_clip(learned[1], tmp_path / "clip")
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
    assert result.checkpoint_hash == file_hash(folder / "model.safetensors")
    for split, found in result.metrics.items():
        figure = found["trained"]["mean"]["recall@10"]
        assert figure > found["chance"]["mean"]["recall@10"]
        assert f"| {split} ({found['images']} images) | trained |" in (
            folder / "README.md"
        ).read_text(encoding="utf-8")
    assert (folder / "model.safetensors").stat().st_size < 12e6


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
    unknown = next(
        word
        for word in ("zymurgy", "quixotic", "sesquipedalian")
        if not set(encode(word)) <= set(shipped.vocabulary.tolist())
    )
    with caplog.at_level("WARNING"):
        rows = shipped._known_rows(unknown)
    assert not caplog.text
    assert decode(shipped.original_ids(torch.tensor(rows))).replace(" ", "") == unknown


def test_an_untrained_one_is_reproducible():
    vocabulary = torch.tensor([*SPECIAL_TOKENS, 320])
    one, other = (untrained_clip(vocabulary, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
