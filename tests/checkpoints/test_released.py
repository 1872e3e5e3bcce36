"""Released checkpoints by name, against a local server in the Hub's form."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from s3prl_speechclip import SpeechClip, checkpoints
from s3prl_speechclip.checkpoints.__main__ import main
from s3prl_speechclip.checkpoints.locate import Located
from s3prl_speechclip.checkpoints.released import RELEASED, Released
from s3prl_speechclip.data.cache import CACHE_VARIABLE
from s3prl_speechclip.errors import CheckpointError

NAME = "speechclip/models/large/flickr/parallel"


class Hub:
    """Serves files below `/repository/resolve/main/`, whole or from an offset."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.served: list[tuple[str, str]] = []
        self.cut: int | None = None  # where the next answer breaks off, bytes
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                content = hub.files.get(self.path)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                span = self.headers.get("Range", "")
                start = int(span.removeprefix("bytes=").partition("-")[0] or 0)
                if body:
                    hub.served.append((self.path, span))
                self.send_response(206 if span else 200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
                self.send_header("Content-Length", str(len(content) - start))
                if span:
                    place = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.send_header("Content-Range", place)
                self.end_headers()
                if body:
                    end, hub.cut = hub.cut, None
                    self.wfile.write(content[start:end])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, released: Released, content: bytes) -> None:
        file = released.file.replace("=", "%3D").replace("+", "%2B")
        self.files[f"/{released.repository}/resolve/main/{file}"] = content


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.server.serve_forever, daemon=True).start()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    # What HF_ENDPOINT and HF_HOME set, which the client reads when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_a_released_checkpoint_is_loaded_by_its_name(hub: Hub, load_case) -> None:
    """Guards `-k speechclip/models/large/flickr/parallel`: fetched once, and found offline."""
    case = load_case("parallel")
    hub.add(RELEASED[NAME], case.path.read_bytes())
    model = SpeechClip.from_pretrained(NAME)
    expected = case.model().encode_speech(case.waveforms).parallel
    assert torch.equal(model.encode_speech(case.waveforms).parallel, expected)
    assert Located(NAME, "").digest() == case.stored.about["sha256"] == model.about["sha256"]
    hub.files.clear()
    SpeechClip.from_pretrained(NAME, local_files_only=True)
    assert len(hub.served) == 1


def test_a_download_is_resumed(hub: Hub, load_case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a network that breaks at 2 of 3 gigabytes; whole blocks are kept."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1_000)
    content = load_case("parallel").path.read_bytes()
    hub.add(RELEASED[NAME], content)
    hub.cut = 10_000
    assert RELEASED[NAME].download().read_bytes() == content
    assert [span for _, span in hub.served] == ["", "bytes=10000-"]


def test_another_file_than_the_first_is_refused(hub: Hub, load_case) -> None:
    """Guards a disk that changes bytes, and a file that is replaced without a word."""
    hub.add(RELEASED[NAME], load_case("parallel").path.read_bytes())
    checkpoints.read(NAME)
    blob = Path(os.path.realpath(RELEASED[NAME].download()))
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is not the file that was first downloaded") as error:
        checkpoints.read(NAME)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["404", "offline"])
def test_what_the_hub_does_not_provide_is_one_line(hub: Hub, fault: str) -> None:
    if fault == "offline":
        hub.server.server_close()
    with pytest.raises(CheckpointError, match=f"does not provide the checkpoint '{NAME}'") as error:
        checkpoints.read(NAME, **({"local_files_only": True} if fault == "offline" else {}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("speechclip/models", "holds several checkpoints: name one of speechclip/models/base/"),
        ("ShampooWang/speechclip_plus", r"large/coco/hybrid\+"),
        ("speechclip/models/large/flicker/parallel", f"did you mean '{NAME}'"),
    ],
)
def test_an_official_repository_says_what_it_holds(source: str, named: str) -> None:
    """Guards against a search for config.json in a repository of .ckpt files."""
    with pytest.raises(CheckpointError, match=named):
        checkpoints.read(source)


def test_the_list_shows_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the 15 names, and the recall that the authors put into their files' names."""
    assert main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == list(RELEASED) and len(lines) == 15
    by_name = {line[0]: " ".join(line[1:]) for line in lines}
    assert by_name[NAME] == "Parallel SpeechCLIP large Flickr8k R@10 89.00"
    name = "ShampooWang/speechclip_plus/large/coco/hybrid+"
    assert by_name[name] == "Hybrid SpeechCLIP+ large SpokenCOCO R@10 83.54"
