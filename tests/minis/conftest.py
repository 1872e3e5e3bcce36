"""Real packages, fetched once into the user's cache, small ones built by hand, and some speech."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soxr

from s3prl_speechclip.data.manifest import Manifest
from s3prl_speechclip.minis import debian, mini_set
from s3prl_speechclip.minis.sources import STAMPS, Stamp, read_stamps
from s3prl_speechclip.minis.synthesis import fetch_libraries, read_aloud
from s3prl_speechclip.minis.synthesis.voices import VOICES
from s3prl_speechclip.minis.training.speech import SpeechCorpus

MakeDeb = Callable[..., Path]


@pytest.fixture(scope="session")
def corpus() -> Manifest:
    """The default corpus, prepared in the user's cache."""
    return Manifest.load(mini_set("stamps").root / "manifest.jsonl")


@pytest.fixture(scope="session")
def package() -> debian.Package:
    """The corpus's package as it is unpacked."""
    return debian.packages([STAMPS])[0]


@pytest.fixture(scope="session")
def stamps(package: debian.Package) -> list[Stamp]:
    return read_stamps(package)[0]


@pytest.fixture(scope="session")
def libraries() -> tuple[Path, ...]:
    return fetch_libraries()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("S3PRL_SPEECHCLIP_CACHE", str(cache))
    return cache


@pytest.fixture
def no_debian_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without apt-get and dpkg: a PATH without programs."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def make_deb(tmp_path: Path) -> MakeDeb:
    """Build a package file: an `ar` of tars, as dpkg-deb does."""

    def make(
        files: dict[str, bytes] | None = None,
        members: list[tarfile.TarInfo] | None = None,
        name: str = "hello",
        version: str = "1.0-1",
        compression: str = "xz",
    ) -> Path:
        parts = {
            "debian-binary": b"2.0\n",
            f"data.tar.{compression}": _tar(files or {}, members or [], compression),
        }
        path = tmp_path / f"{name}_{version}_all.deb"
        with open(path, "wb") as out:
            out.write(b"!<arch>\n")
            for part, data in parts.items():
                out.write(f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
                out.write(data + b"\n" * (len(data) % 2))
        return path

    return make


def _tar(files: dict[str, bytes], members: list[tarfile.TarInfo], compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


SENTENCES = (
    "a red bird sits on the tree",
    "the old man sells green apples",
    "two small dogs run over the bridge",
    "she plays the violin at night",
)
READERS = ("flite-kal16", "espeak-en-us")


@pytest.fixture(scope="session")
def small_speech() -> SpeechCorpus:
    """Eight readings by two voices; the first two recordings are the same one twice."""
    libraries = fetch_libraries()
    readings = [(v, read_aloud(s, VOICES[v], libraries)) for v in READERS for s in SENTENCES]
    readings.insert(0, readings[0])
    samples = [soxr.resample(r.samples, r.sample_rate, 16_000) for _, r in readings]
    recordings = pd.DataFrame(
        {"speaker": [v for v, _ in readings], "length": [len(part) for part in samples]}
    )
    return SpeechCorpus(recordings, np.concatenate(samples))
