"""The minis' command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_corpus import write_flickr8k

from s3prl_speechclip.data.corpora import flickr8k
from s3prl_speechclip.data.manifest import MANIFEST
from s3prl_speechclip.minis import PLACES, SUPERB
from s3prl_speechclip.minis.__main__ import PARTS, main, parser
from s3prl_speechclip.minis.training import recipe
from s3prl_speechclip.minis.training.report import read_demo


def test_help_names_commands_and_parts():
    """Guards against a command or a part that nobody finds."""
    text = parser().format_help()
    assert all(name in text for name in ("demo", "make", "superb"))
    assert set(PARTS) == {*recipe.PARTS, "results"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["make", "hubrt"], "unknown part 'hubrt'"),
        (["superb", "-d", "asr"], f"mini sets are for {', '.join(SUPERB)}"),
    ],
)
def test_a_wrong_name_is_an_error_in_one_line(arguments, named, capsys):
    """Guards against a traceback, and against training for hours after a slip of the pen."""
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


def test_the_demo_shows_the_shipped_model_and_then_its_own(
    empty_cache, tmp_path, monkeypatch, capfd
):
    """Guards the demo's stages, on a small corpus where stamps are looked for, in two steps."""
    splits = {"dev": "dev_speaker", "test": "test_speaker"}
    root = empty_cache / PLACES["stamps"]
    read = flickr8k.read(write_flickr8k(root, train=2, dev=1, test=2))
    utterances = [replace(u, split=splits.get(u.split, u.split)) for u in read.utterances]
    tested = [u for u in utterances if u.split == "test_speaker"]
    utterances += [replace(u, split="test_image") for u in tested]
    replace(
        read,
        corpus="stamps",
        root=root,
        utterances=tuple(utterances),
        dev_splits=("dev_speaker",),
        test_splits=("test_speaker", "test_image"),
        mini=True,
    ).save(root / MANIFEST)
    monkeypatch.chdir(tmp_path)
    small = "runner.total_steps=2,,data.batch_size=4,,runner.precision=fp32"
    assert main(["demo", "-o", small]) == 0
    said = capfd.readouterr()
    stages = [said.err.index(f"[{number}/4, after") for number in (1, 2, 3, 4)]
    assert stages == sorted(stages)
    assert stages[1] < said.err.index("look at it: result/demo/shipped/keywords.html") < stages[2]
    table = Path(said.out.splitlines()[-1])
    assert table.read_text(encoding="utf-8") in said.out
    trained, shipped = (read_demo(table.with_name(name)) for name in ("trained", "shipped"))
    recalls = [found["retrieval"].metrics["test_image"]["parallel"] for found in (trained, shipped)]
    cells = [f"{recall['mean']['recall@10']:.1f}" for recall in recalls]
    row = next(line for line in table.read_text().splitlines() if "test_image" in line)
    assert [cell.strip() for cell in row.split("|")[3:5]] == cells
    assert trained["keywords"].checkpoint_hash != shipped["keywords"].checkpoint_hash
    assert (table.parent / "trained" / "keywords.html").is_file()
