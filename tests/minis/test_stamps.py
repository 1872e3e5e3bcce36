"""The default corpus: complete, with fixed splits that do not leak."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
import wave
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis import debian, mini_set
from s3prl_speechclip.minis.sets.stamps import VERSION, normalised
from s3prl_speechclip.minis.sources import STAMPS, STAMPS_FOLDER, Stamp
from s3prl_speechclip.minis.synthesis import spoken, words_of
from s3prl_speechclip.minis.synthesis.voices import HELD_OUT_VOICES, VOICES

SEEN = ("train", "dev_speaker", "test_speaker")
GROUPS = (SEEN, ("dev_image",), ("test_image",))


def read(root: Path, archive: Path | None = None) -> Manifest:
    """Make the corpus, or read it where it is made."""
    return Manifest.load(mini_set("stamps", archive, root=root).root / "manifest.jsonl")


@pytest.fixture(scope="session")
def contents(corpus: Manifest) -> dict[str, str]:
    """SHA-256 of each prepared recording and picture."""
    paths = {path for u in corpus.utterances for path in (u.audio, u.image)}
    return {p: hashlib.sha256(corpus.path(p).read_bytes()).hexdigest() for p in paths}


@pytest.fixture
def few(package: debian.Package, empty_cache: Path, make_deb) -> Path:
    """A package file with three real stamps; the cache holds the synthesiser's libraries."""
    system = package.root.parents[1]
    for name in ("libflite1", "libasound2", "libasound2t64"):
        if (system / name).is_dir():
            (empty_cache / "debian" / system.name).mkdir(parents=True, exist_ok=True)
            (empty_cache / "debian" / system.name / name).symlink_to(system / name)
    return make_deb(sample(package), name=STAMPS, version=VERSION)


def sample(package: debian.Package) -> dict[str, bytes]:
    folder = package.root / STAMPS_FOLDER
    names = sorted(p for p in folder.rglob("*_desc_bg.ogg") if "symbols" not in p.parts)[::300]
    assert len(names) == 3
    files = {}
    for path in names:
        stem = path.name.removesuffix("_desc_bg.ogg")
        for found in (*path.parent.glob(f"{stem}.*"), *path.parent.glob(f"{stem}_desc*")):
            files[f"./{found.relative_to(package.root)}"] = found.read_bytes()
    return files


def test_counts(corpus: Manifest, stamps: list[Stamp]) -> None:
    """The published counts of the known version; guards the reading of file names."""
    recordings = [r for stamp in stamps for r in stamp.recordings]
    assert (len(stamps), len(recordings)) == (676, 5579)
    assert len({r.language for r in recordings}) == 13
    human = [u for u in corpus.utterances if not u.synthetic]
    assert len(human) == 5579
    assert len({u.audio for u in human}) == 5143
    assert sum(u.language == "en" for u in human) == 65
    assert len(corpus.utterances) - len(human) == 676 * len(VOICES)
    assert 2.0 < sum(u.duration for u in human) / 3600 < 2.2
    assert len({u.utterance_id for u in corpus.utterances}) == len(corpus.utterances)


def test_nothing_crosses_seen_and_unseen(corpus: Manifest, contents: dict[str, str]) -> None:
    """Guards test_image against captions, pictures and components that were trained on."""
    for one, other in combinations(GROUPS, 2):
        for key in (
            lambda u: normalised(u.caption),
            lambda u: contents[u.image],
            lambda u: u.pair_id,
        ):
            first, second = (
                {key(u) for u in corpus.utterances if u.split in group} for group in (one, other)
            )
            assert not first & second


def test_no_recording_is_in_two_splits(corpus: Manifest, contents: dict[str, str]) -> None:
    """By content; guards every evaluation against recordings of training."""
    splits = defaultdict(set)
    for utterance in corpus.utterances:
        splits[contents[utterance.audio]].add(utterance.split)
    assert {len(names) for names in splits.values()} == {1}


def test_what_is_held_out_of_seen_components(corpus: Manifest) -> None:
    """Guards the splits of speakers: no voice of them and no language of a component is trained on,
    and every component is."""
    trained = corpus.split("train")
    held = {
        split: {(u.pair_id, u.language) for u in corpus.split(split) if not u.synthetic}
        for split in SEEN
    }
    for one, other in combinations(SEEN, 2):
        assert not held[one] & held[other]
    for split in ("test_speaker", "dev_speaker"):
        voices = {u.speaker for u in corpus.split(split) if u.synthetic}
        assert voices == {v for v, name in HELD_OUT_VOICES.items() if name == split}
        assert not voices & {u.speaker for u in trained}
        assert {u.pair_id for u in corpus.split(split)} <= {u.pair_id for u in trained}


def test_components_share_a_caption_or_content(corpus: Manifest, contents: dict[str, str]) -> None:
    """Against a slow oracle: merge sets until none touch; guards retrieval against counting a
    right answer as wrong."""
    of_image = defaultdict(set)
    pairs = defaultdict(set)
    for u in corpus.utterances:
        of_image[u.image] |= {normalised(u.caption), contents[u.audio], contents[u.image]}
        pairs[u.pair_id].add(u.image)
    sets: list[tuple[set[str], set[str]]] = []
    for image, keys in of_image.items():
        names = {image}
        for touching in [other for other in sets if other[1] & keys]:
            sets.remove(touching)
            names |= touching[0]
            keys |= touching[1]
        sets.append((names, keys))
    found = {frozenset(images) for images in pairs.values()}
    assert found == {frozenset(names) for names, _ in sets}
    assert max(map(len, found)) <= 6  # no generic recording chains stamps that differ


def test_split_shares(corpus: Manifest) -> None:
    """The shares that the hash aims at, within the spread of 607 draws (3 standard errors)."""
    total = len({u.pair_id for u in corpus.utterances})
    for split, share in (("test_image", 0.15), ("dev_image", 0.08)):
        found = len({u.pair_id for u in corpus.split(split)}) / total
        assert abs(found - share) < 3 * (share * (1 - share) / total) ** 0.5


def test_recordings_are_as_the_manifest_says(corpus: Manifest) -> None:
    """16 kHz, 16 bit, mono, and as long as said; guards the times of the words."""
    for utterance in corpus.utterances[::7]:
        with wave.open(str(corpus.path(utterance.audio))) as audio:
            assert audio.getparams()[:3] == (1, 2, 16_000)
            assert audio.getnframes() / 16_000 == utterance.duration > 0.1


def test_pictures_are_rgb_on_white(corpus: Manifest, stamps: list[Stamp]) -> None:
    """Guards against black where a drawing is transparent."""
    assert len({u.image for u in corpus.utterances}) == 676
    corners = []
    for stamp in stamps:
        with Image.open(corpus.path(f"images/{stamp.name}.png")) as image:
            assert image.mode == "RGB"
            pixels = np.asarray(image)
        if stamp.image.suffix == ".svg":
            assert max(pixels.shape[:2]) == 400
            assert pixels.std() > 5, f"{stamp.name} is blank"
            corners.append((pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all(axis=1).any())
    assert np.mean(corners) > 0.9


def test_words_match_the_caption_and_its_duration(corpus: Manifest) -> None:
    for utterance in corpus.utterances:
        if not utterance.synthetic:
            assert not utterance.words
            continue
        expected = " ".join(word for _, word in words_of(spoken(utterance.caption)))
        assert " ".join(word.text for word in utterance.words) == expected
        times = [time for word in utterance.words for time in (word.start, word.end)]
        # The manifest keeps a tenth of a millisecond.
        assert times == sorted(times) and 0 <= times[0] and times[-1] <= utterance.duration + 1e-4


def test_texts_are_in_the_language_that_is_spoken(corpus: Manifest) -> None:
    """Guards against an English caption beside foreign speech: `caption` is for that."""
    assert all(u.caption for u in corpus.utterances)
    assert all(u.text == u.caption for u in corpus.utterances if u.language == "en")
    for language, letters in (("ru", "[а-яё]"), ("el", "[α-ω]"), ("bg", "[а-я]")):
        texts = [u.text for u in corpus.utterances if u.language == language and u.text]
        assert np.mean([bool(re.search(letters, text.lower())) for text in texts]) > 0.99


def test_two_preparations_are_the_same(
    few: Path, package, make_deb, tmp_path: Path, caplog, monkeypatch
) -> None:
    """Every file, byte for byte, without apt-get; guards against an order or a noise that varies.
    Another version of the package is named."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    made = []
    for name in ("one", "two"):
        assert len({u.image for u in read(tmp_path / name, few).utterances}) == 3
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        made.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files})
    assert made[0].keys() == made[1].keys()
    assert not [path for path, data in made[0].items() if data != made[1][path]]
    assert all(record.levelname == "INFO" for record in caplog.records)
    newer = sample(package) | {"./usr/share/doc/changelog": b"2030"}
    read(tmp_path / "other", make_deb(newer, name=STAMPS, version="2030-1"))
    assert "2030-1" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("_desc_bg.ogg", b"OggS"),
        (".png", b"\x89PNG"),
        (".txt", b"\xff\xfe"),
        (".txt", b"\n"),
    ],
)
def test_a_broken_file_is_named(few, package, make_deb, tmp_path, suffix, damage) -> None:
    """Guards against a recording, picture or caption that is left out silently."""
    files = sample(package)
    name = next(name for name in files if name.endswith(suffix))
    files[name] = damage
    archive = make_deb(files, name=STAMPS)
    with pytest.raises(CorpusError, match=re.escape(Path(name).name)) as caught:
        read(tmp_path / "small", archive)
    assert "again" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "small").exists()


def test_a_package_without_stamps_is_named(few, make_deb, tmp_path) -> None:
    archive = make_deb({"./usr/share/doc/x": b"1"}, name=STAMPS)
    with pytest.raises(CorpusError, match="holds no stamps.*tuxpaint-stamps-default"):
        read(tmp_path / "small", archive)


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    """Guards the user's own files against being taken for a corpus, or removed."""
    (tmp_path / "mine").write_text("1")
    with pytest.raises(CorpusError, match="holds no manifest.jsonl"):
        read(tmp_path)
    assert (tmp_path / "mine").read_text() == "1"


def test_a_killed_preparation_lets_go(few: Path, tmp_path: Path) -> None:
    """Workers end with their parent; orphans would hold the lock and stop every later run."""
    root, started = tmp_path / "small", tmp_path / "started"
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from s3prl_speechclip.minis import making, mini_set\n"
        "def wait(root, libraries, margin, work):\n"
        f"    Path({str(started)!r}).touch()\n"
        "    time.sleep(60)\n"
        "making._record = wait\n"
        f"mini_set('stamps', Path({str(few)!r}), root=Path({str(root)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not root.exists()
    begun = time.monotonic()
    read(root, few)
    assert time.monotonic() - begun < 30  # less than the orphans would sleep
