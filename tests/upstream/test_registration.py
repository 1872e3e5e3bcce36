"""The names on s3prl's hub: there for all who ask, and never in another's place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from small_models import small_model

from s3prl_speechclip import registration
from s3prl_speechclip.pretrain.config import resolve_config, write_config
from s3prl_speechclip.results import s3prl_versions, versions
from s3prl_speechclip.upstream.speechclip import hubconf

NAMES = [
    f"speechclip_{model}{kind}"
    for model in ("parallel", "cascaded", "plus", "hybrid", "hybrid_plus", "words", "encoder")
    for kind in ("", "_local", "_url")
]


def run(program: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_way_of_asking_finds_the_names() -> None:
    """Fault: a name that `-u` takes and `available_names()` does not list."""
    import s3prl.hub
    from s3prl.nn import S3PRLUpstream

    assert set(NAMES) <= set(S3PRLUpstream.available_names())
    assert {name for name in NAMES if "_local" in name or "_url" in name}.isdisjoint(
        S3PRLUpstream.available_names(only_registered_ckpt=True)
    )
    for name in NAMES:
        assert getattr(s3prl.hub, name) is getattr(hubconf, name)
        assert getattr(s3prl.hub, name).__name__ == name


def test_a_hub_that_is_there_already_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: who imports s3prl first never sees the names."""
    import s3prl.hub

    for name in NAMES:
        monkeypatch.delattr(s3prl.hub, name)
    registration.install()
    assert set(NAMES) <= set(s3prl.hub.options())


def test_a_name_of_s3prls_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Fault: s3prl's own upstream of a name gives this package's features, or nobody is told."""
    hub = ModuleType("s3prl.hub")
    own = hub.speechclip_plus = lambda: None  # type: ignore[attr-defined]
    registration.register(hub)
    assert hub.speechclip_plus is own
    assert ["'speechclip_plus'" in message for message in caplog.messages] == [True]
    registration.register(hub)
    assert hub.speechclip_hybrid is hubconf.speechclip_hybrid


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    """Fault: who asks for the version waits for torch, or fails where s3prl cannot be imported."""
    program = "import sys, s3prl_speechclip; print(*{'torch', 's3prl'} & set(sys.modules))"
    assert run(program, tmp_path).strip() == ""


def test_names_are_known_before_the_hub_is_imported(tmp_path: Path) -> None:
    """Fault: a name of s3prl's is refused since its source was read wrongly, or a typo is not."""
    program = (
        "import sys\n"
        "from s3prl_speechclip.downstream.upstream_names import hub_names\n"
        "read = hub_names()\n"
        "assert 's3prl' not in sys.modules\n"
        "import s3prl.hub\n"
        "module = lambda name: getattr(s3prl.hub, name).__module__\n"
        "others = {name for name in hub_names() if not module(name).endswith('hubconf')}\n"
        "print(len(read), read ^ (hub_names() - others))"
    )
    count, _, difference = run(program, tmp_path).strip().partition(" ")
    assert int(count) > 150 and difference == "set()"


def test_the_documented_example(root: Path, tmp_path: Path) -> None:
    """Fault: the five lines that a user tries first do not run, or give other shapes."""
    folder = tmp_path / "result" / "pretrain" / "mine"
    small_model("speechclip_hybrid").save_pretrained(folder / "last")
    write_config(folder / "config.yaml", resolve_config("speechclip_hybrid"))
    readme = (root / "upstream" / "speechclip" / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(import .*?)```", readme, re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line]) == 5
    found = run(example + "print(tuple(features.shape), lengths.tolist())", tmp_path)
    assert found.splitlines()[-1] == "(2, 50, 32) [50, 38]"


def test_two_distributions_of_s3prl_warn_and_are_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fault: ESPnet's fork overwrites files of s3prl, and results do not say which one ran."""
    for name, version in (("s3prl", "0.4.18"), ("espnet_s3prl", "2026.5.14")):
        folder = tmp_path / name / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
    others = [path for path in sys.path if not path.endswith("site-packages")]
    for installed, expected in (
        (["s3prl"], {"s3prl": "0.4.18"}),
        (["espnet_s3prl"], {"espnet-s3prl": "2026.5.14"}),
        (["s3prl", "espnet_s3prl"], {"s3prl": "0.4.18", "espnet-s3prl": "2026.5.14"}),
    ):
        monkeypatch.setattr(sys, "path", [*(str(tmp_path / name) for name in installed), *others])
        assert s3prl_versions() == expected
        assert {k: v for k, v in versions().items() if "s3prl" in k} == {
            "s3prl_speechclip": "not installed",
            **expected,
        }
        registration.warn_of_two()
        assert ("both installed" in caplog.text) is (len(installed) == 2)


def test_the_folder_works_inside_s3prl(root: Path, tmp_path: Path) -> None:
    """Fault: the folder needs its place in this package, where s3prl's users copy it into s3prl."""
    installed = Path(find_spec("s3prl").submodule_search_locations[0])
    copy = tmp_path / "s3prl"
    shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "upstream" / "speechclip", copy / "upstream" / "speechclip")
    with (copy / "hub.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom s3prl.upstream.speechclip.hubconf import *\n")
    small_model("speechclip_plus").save_pretrained(tmp_path / "model")
    program = (
        "import s3prl_speechclip; from s3prl.nn import S3PRLUpstream\n"
        f"upstream = S3PRLUpstream('speechclip_plus', {str(tmp_path / 'model')!r})\n"
        "print(type(upstream.upstream).__module__, upstream.num_layers, upstream.hidden_sizes)"
    )
    found = run(program, tmp_path, PYTHONPATH=str(tmp_path)).splitlines()[-1]
    assert found == "s3prl.upstream.speechclip.expert 4 [32, 32, 32, 32]"
