"""The readers of ZeroSpeech's semantic and phonetic sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from s3prl_speechclip.data.corpora.zerospeech import (
    NATURAL,
    SPLITS,
    SUBSETS,
    SYNTHETIC,
    Item,
    Token,
    load_phonetic,
    load_semantic,
    read_gold,
    read_items,
)
from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis import DESCRIPTION


@pytest.mark.parametrize("missing", ["gold.csv", "pairs.csv", "synthetic", "librispeech"])
def test_a_set_without_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    """Guards the message: what is missing, and what is expected."""
    for split in SPLITS:
        for kind in (NATURAL, SYNTHETIC):
            (tmp_path / "semantic" / split / kind).mkdir(parents=True)
        for name in ("gold.csv", "pairs.csv"):
            (tmp_path / "semantic" / split / name).touch()
    load_semantic(tmp_path)
    path = tmp_path / "semantic" / "test" / missing
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(CorpusError, match=f"no '.*test/{missing}'.*--data-root"):
        load_semantic(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no column"),
        ("type,filename,word\nsynthetic,a,apple\n", "no column voice"),
        ("type,filename,word,voice\n", "no rows"),
        ("type,filename,word,voice\nsynthetic,a,apple,A\nsynthetic,a,pear,A\n", "a' twice"),
        ("type,filename,word,voice\nsynthetic,a\n", "line 2"),
        ('type,filename,word,voice\nsynthetic,"a,apple,A\n', "not a CSV"),
    ],
)
def test_a_broken_gold_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    """Guards against a traceback, and against rows that vanish."""
    path = tmp_path / "gold.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=named):
        read_gold(path)


def test_a_gold_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Guards words with commas and quotes."""
    tokens = [Token(SYNTHETIC, "a", 'ice, "cold"', "A"), Token(NATURAL, "b", "apple", "")]
    pd.DataFrame(tokens).to_csv(tmp_path / "gold.csv", index=False)
    assert read_gold(tmp_path / "gold.csv") == tokens


def test_the_environment_names_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a mini result where the official set was meant."""
    (tmp_path / "zerospeech2021").mkdir()
    monkeypatch.setenv("S3PRL_SPEECHCLIP_DATA", str(tmp_path))
    with pytest.raises(CorpusError, match="zerospeech2021/semantic/dev/gold.csv"):
        load_semantic()
    with pytest.raises(CorpusError, match="--archive"):
        load_semantic(tmp_path, "some.deb")


HEADER = "#file onset offset #phone prev-phone next-phone speaker\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no column"),
        (HEADER, "no rows"),
        (HEADER.replace("speaker", "reader"), "no column speaker"),
        (HEADER + "a 0.1 0.2 AH B\n", "line 2"),
        (HEADER + "a 0.1 0.2 AH B T x\na 0.2 0.2 AH B T x\n", "line 3.*'0.2' and '0.2'"),
        (HEADER + "a 0.1 nan AH B T x\n", "'nan'"),
        (HEADER + "a 0.1 end AH B T x\n", "'end'"),
    ],
)
def test_a_broken_item_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    """Guards against a traceback, and against triphones without frames."""
    path = tmp_path / "dev-clean.item"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=named):
        read_items(path)


def test_the_phonetic_folder_or_the_one_above_is_read(tmp_path: Path) -> None:
    """Guards the layout of the official set, and the message where a subset is missing."""
    for subset in SUBSETS:
        folder = tmp_path / "phonetic" / subset
        folder.mkdir(parents=True)
        (folder / f"{subset}.item").write_text(HEADER + "a 0.1 0.25 AH B T x\n")
    for root in (tmp_path, tmp_path / "phonetic"):
        found = load_phonetic(root)
        assert found.items("test-other") == [Item("a", 0.1, 0.25, "AH", "B", "T", "x")]
        assert found.recording("test-other", "a") == folder / "a.wav"
    (folder / "test-other.item").unlink()
    with pytest.raises(CorpusError, match=r"no '.*test-other/test-other.item'.*--data-root"):
        load_phonetic(tmp_path)


def test_a_mini_set_is_one_wherever_it_lies(tmp_path: Path) -> None:
    """Guards the board against a mini set's figures beside the published ones."""
    for root in (tmp_path / "mini", tmp_path / "own"):
        for subset in SUBSETS:
            folder = root / "phonetic" / subset
            folder.mkdir(parents=True)
            (folder / f"{subset}.item").write_text("#file onset offset #phone prev-phone", "utf-8")
    (tmp_path / "mini" / DESCRIPTION).write_text('{"notes": ["8 voices"]}', encoding="utf-8")
    mini, own = load_phonetic(tmp_path / "mini"), load_phonetic(tmp_path / "own")
    assert mini.mini and mini.notes == ("8 voices",) and mini.corpus != own.corpus
    assert not own.mini
