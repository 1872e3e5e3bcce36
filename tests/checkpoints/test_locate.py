"""Which trained model a name means."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from small_models import small_model

from s3prl_speechclip import checkpoints
from s3prl_speechclip.checkpoints.locate import find_checkpoint, locate_model
from s3prl_speechclip.encoders.shipped import ASSETS
from s3prl_speechclip.errors import CheckpointError, ConfigError
from s3prl_speechclip.pretrain.config import resolve_config, write_config


def write_run(folder: Path, variant: str, time: int) -> None:
    (folder / "step-00000001").mkdir(parents=True)
    small_model(variant).save_pretrained(folder / "step-00000001")
    (folder / "last").symlink_to("step-00000001")
    write_config(folder / "config.yaml", resolve_config(variant))
    os.utime(folder / "last" / "config.json", ns=(time, time))


def test_the_newest_run_of_the_name_is_taken(tmp_path: Path) -> None:
    """Guards against a run of another model, or an older one."""
    write_run(tmp_path / "old", "speechclip_parallel", 1)
    write_run(tmp_path / "new", "speechclip_parallel", 3)
    write_run(tmp_path / "other", "speechclip_cascaded", 9)
    located = locate_model("speechclip_parallel", results=tmp_path)
    assert located.source == str(tmp_path / "new")
    assert "newest" in located.reason
    assert len(located.digest()) == 64


def test_what_the_user_gives_wins(tmp_path: Path) -> None:
    """Guards `-k`."""
    write_run(tmp_path / "run", "speechclip_parallel", 1)
    located = locate_model("speechclip_parallel", "somebody/model", results=tmp_path)
    assert located.source == "somebody/model"


def test_without_a_run_the_shipped_model_is_taken(tmp_path: Path) -> None:
    """Guards a first user, and against a model that is used without a word about it."""
    located = locate_model("speechclip_parallel", results=tmp_path)
    assert Path(located.source).name == "speechclip_parallel"
    assert "ships" in located.reason


def test_no_trained_model_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against an untrained model that is silently used, in a package without assets."""
    monkeypatch.setattr("s3prl_speechclip.checkpoints.locate.ASSETS", tmp_path / "assets")
    with pytest.raises(CheckpointError, match=r"run_pretrain\.py -u speechclip_parallel"):
        locate_model("speechclip_parallel", results=tmp_path)


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    """Guards against a misspelt name that finds nothing."""
    with pytest.raises(ConfigError, match="speechclip_parallel"):
        locate_model("speechclip_paralel", results=tmp_path)


@pytest.mark.parametrize("given", ["mini", "speechclip_parallel"])
def test_a_shipped_model_is_named_with_k(tmp_path: Path, given: str) -> None:
    """Guards `-k mini` and `-k speechclip_parallel` against a newer run and the Hub."""
    write_run(tmp_path / "run", "speechclip_parallel", 1)
    located = locate_model("speechclip_parallel", given, results=tmp_path)
    assert Path(located.source) == ASSETS / "speechclip_parallel"
    assert "ships" in located.reason and len(located.digest()) == 64
    assert checkpoints.read(located.source).config.variant == "speechclip_parallel"


def test_a_folder_of_that_name_comes_before_the_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards a user's own folder."""
    monkeypatch.chdir(tmp_path)
    small_model("speechclip_plus").save_pretrained("speechclip_plus")
    assert locate_model("speechclip_plus", "speechclip_plus").source == "speechclip_plus"
    assert checkpoints.read("speechclip_plus").config.size == "custom"


def test_a_copied_run_without_links_is_found(tmp_path: Path) -> None:
    """Guards runs that went through an object store: the newest complete checkpoint counts."""
    write_run(tmp_path / "run", "speechclip_parallel", 5)
    newest = tmp_path / "run" / "step-00000020"
    shutil.copytree(tmp_path / "run" / "step-00000001", newest)
    (tmp_path / "run" / "step-00000030").mkdir()  # killed while it was written
    (tmp_path / "run" / "last").unlink()
    located = locate_model("speechclip_parallel", results=tmp_path)
    assert located.source == str(tmp_path / "run")
    assert find_checkpoint(Path(located.source)) == newest


def test_a_copied_run_without_links_keeps_its_best_checkpoint(tmp_path: Path) -> None:
    """Guards results against another checkpoint than before the copy, or one half written."""
    run = tmp_path / "run"
    for step in ("step-00000004", "step-00000006", "step-00000008.partial"):
        (run / step).mkdir(parents=True)
        about = {"about": {"step": 6, "best_step": 4}}
        (run / step / "config.json").write_text(json.dumps(about))
    assert find_checkpoint(run) == run / "step-00000004"
    shutil.rmtree(run / "step-00000004")
    assert find_checkpoint(run) == run / "step-00000006"
