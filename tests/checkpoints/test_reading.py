"""Opening an official file runs nothing, and refuses what such files do not hold."""

from __future__ import annotations

import pathlib
import pickle
import zipfile

import pytest
import torch
from small_models import small_model

from s3prl_speechclip.checkpoints.locate import is_official
from s3prl_speechclip.checkpoints.official import read_official
from s3prl_speechclip.checkpoints.official.reading import Record, open_official
from s3prl_speechclip.errors import CheckpointError
from s3prl_speechclip.model.speechclip import SpeechClip


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class System:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("kind", [Touch, System])
@pytest.mark.parametrize("place", ["hyper_parameters", "state_dict", "callbacks"])
def test_a_malicious_file_is_refused_and_runs_nothing(tmp_path, kind, place: str):
    """Guards users who load a checkpoint from anywhere."""
    victim = tmp_path / "ran"
    weapon = Touch(victim) if kind is Touch else System(f"touch {victim}")
    path = tmp_path / "evil.ckpt"
    torch.save({"hyper_parameters": {}, "state_dict": {}, place: {"config": weapon}}, path)
    for load in (read_official, SpeechClip.from_pretrained):
        with pytest.raises(CheckpointError, match="refused: it refers to .*(getattr|system)"):
            load(path)
    assert not victim.exists()


class Rebuilt:
    """Unpickled by REDUCE with arguments, state (BUILD) and items, each holding the weapon."""

    def __init__(self, weapon: object, place: str) -> None:
        self.weapon, self.place = weapon, place

    def __reduce_ex__(self, protocol):
        state = {"inner": self.weapon} if self.place == "state" else None
        items = iter([self.weapon]) if self.place == "list items" else None
        pairs = iter([("inner", self.weapon)]) if self.place == "dict items" else None
        if self.place == "arguments":
            return list, ([self.weapon],)
        return (dict if pairs else list), (), state, items, pairs


@pytest.mark.parametrize("place", ["arguments", "state", "list items", "dict items"])
def test_nested_reduce_and_build_run_nothing(tmp_path, place: str):
    """Guards against code hidden in what is allowed: containers and the configuration class."""
    victim = tmp_path / "ran"
    hidden = {"a": [({"b": Rebuilt(Touch(victim), place)},)]}
    path = tmp_path / "evil.ckpt"
    for content in (
        {"hyper_parameters": {"config": hidden}, "state_dict": {}},
        {"hyper_parameters": {"config": {}}, "state_dict": {"w": torch.zeros(1), "x": hidden}},
    ):
        torch.save(content, path)
        for load in (read_official, SpeechClip.from_pretrained):
            with pytest.raises(CheckpointError):
                load(path)
    assert not victim.exists()


def test_the_stand_ins_state_is_data_only(save_official):
    """Guards the configuration class: a state that names methods or dunders changes nothing."""
    settings = {"__class__": "x", "__setstate__": "y", "get": "z", "model_settings": {"a": 1}}
    read = open_official(save_official(settings, {})).settings.values
    assert read == settings and Record.__setstate__ is not None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pickle_in_a_native_folder_is_not_run(tmp_path, name: str):
    """Guards folders from anywhere."""
    folder, victim = tmp_path / "model", tmp_path / "ran"
    small_model("speechclip_parallel").save_pretrained(folder)
    (folder / name).write_bytes(pickle.dumps(Touch(victim)))
    with pytest.raises(CheckpointError) as caught:
        SpeechClip.from_pretrained(folder)
    assert not victim.exists() and "\n" not in str(caught.value)


def test_a_bare_pickle_is_no_official_file(tmp_path):
    """Guards the form before archives, which would be unpickled whole."""
    victim = tmp_path / "ran"
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps(Touch(victim)))
    assert not is_official(path)
    with pytest.raises(CheckpointError):
        read_official(path)
    with pytest.raises(CheckpointError, match="neither a checkpoint folder nor an official"):
        SpeechClip.from_pretrained(path)
    assert not victim.exists()


def test_nothing_stays_registered(load_case, tmp_path):
    """Guards other readers in the same process: torch.load still refuses the class."""
    path = load_case("parallel").path
    before = set(torch.serialization.get_safe_globals())
    read_official(path)
    with pytest.raises(CheckpointError):
        read_official(tmp_path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError, match="OrderedNamespace"):
        torch.load(path, weights_only=True)


def test_what_others_registered_is_refused_too(tmp_path):
    """Guards against packages that mark their own classes as safe for all of a process."""
    path = tmp_path / "other.ckpt"
    torch.save({"hyper_parameters": {"config": pathlib.PurePosixPath("x")}}, path)
    for registered in ([], [pathlib.PurePosixPath]):
        with (
            torch.serialization.safe_globals(registered),
            pytest.raises(CheckpointError, match=r"pathlib\.PurePosixPath"),
        ):
            read_official(path)


def test_the_configuration_is_plain(load_case):
    """Guards against the stand-in leaking into configurations and JSON."""
    settings = open_official(load_case("hybrid_plus").path).settings
    assert type(settings.values) is dict
    assert settings.get("model_settings.cascaded_branch.downsampling.cif.cif_threshold") == 1.0
    assert settings.get("model_settings.nothing.of.the.kind", 5) == 5
    with pytest.raises(CheckpointError, match=r"lacks 'model_settings\.nothing'"):
        settings.get("model_settings.nothing")


@pytest.mark.parametrize("size", [0, 100, 5_000, -1])
def test_a_damaged_file_is_an_error_of_one_line(load_case, tmp_path, size: int):
    """Guards interrupted downloads."""
    path = tmp_path / "cut.ckpt"
    path.write_bytes(load_case("parallel").path.read_bytes()[:size])
    with pytest.raises(CheckpointError) as caught:
        read_official(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_any_other_archive_is_no_official_file(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    assert not is_official(path)


def test_another_projects_checkpoint_says_what_is_missing(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    assert is_official(path)
    with pytest.raises(CheckpointError, match=r"lacks hyper_parameters\.config"):
        read_official(path)
