"""Packages without root: whole or not at all, nothing outside, errors that name the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time

import pytest

from s3prl_speechclip.errors import CorpusError
from s3prl_speechclip.minis import debian

SMALL = "libsonic0"  # a package of 11 kB


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_unpacking_needs_no_dpkg(make_deb, tmp_path, no_debian_tools, compression) -> None:
    """Guards machines without Debian's tools."""
    files = {"./usr/lib/a/one": b"1" * 100_001, "./usr/two": b""}
    archive = make_deb(files, [link("./usr/lib/a/three", "one")], compression=compression)
    out = tmp_path / "out"
    debian.unpack(archive, out)
    assert (out / "usr/lib/a/one").read_bytes() == b"1" * 100_001
    assert os.readlink(out / "usr/lib/a/three") == "one"
    assert (out / "usr/two").is_file()


def test_dpkg_reads_what_python_cannot(tmp_path) -> None:
    """Guards distributions that compress by zstd."""
    (tmp_path / "in/DEBIAN").mkdir(parents=True)
    (tmp_path / "in/a").write_bytes(b"1")
    fields = "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: me\nDescription: d\n"
    (tmp_path / "in/DEBIAN/control").write_text(fields)
    archive = tmp_path / "hello.deb"
    subprocess.run(["dpkg-deb", "-Zzstd", "--build", tmp_path / "in", archive], check=True)
    debian.unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == b"1"


def test_an_unknown_compression_is_named(make_deb, tmp_path, no_debian_tools) -> None:
    archive = make_deb({"./a": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"data.tar.xz ", b"data.tar.foo"))
    with pytest.raises(CorpusError, match="compressed as 'foo'.*install dpkg"):
        debian.unpack(archive, tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.97, None])
def test_a_broken_package_is_named(make_deb, tmp_path, keep) -> None:
    """Cut anywhere, or with bytes flipped inside; guards against a traceback, and against taking
    half of the files."""
    archive = make_deb({"./a": os.urandom(50_000)})
    data = bytearray(archive.read_bytes())
    if keep is None:
        data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    else:
        del data[keep if isinstance(keep, int) else int(len(data) * keep) :]
    archive.write_bytes(data)
    with pytest.raises(CorpusError, match=f"{archive.name}' is damaged") as caught:
        debian.unpack(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "members",
    [
        [tarfile.TarInfo("../evil")],
        [tarfile.TarInfo("./a/../../evil")],
        [link("a", "..")],
        [link("a", "../out-beside")],
        [tarfile.TarInfo("b/x"), link("b/a", "."), link("b/a/c", "../..")],
        [link("a", "../evil", tarfile.LNKTYPE)],
    ],
)
def test_nothing_is_written_outside(make_deb, tmp_path, members) -> None:
    """Guards the user's files against a package from elsewhere."""
    out = tmp_path / "in" / "out"
    out.mkdir(parents=True)
    archive = make_deb({}, members)
    with pytest.raises(CorpusError, match=f"{archive.name}' is not safe"):
        debian.unpack(archive, out)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


def test_an_absolute_name_stays_inside(make_deb, tmp_path) -> None:
    debian.unpack(make_deb({"/absolute": b"1"}), tmp_path / "out")
    assert (tmp_path / "out/absolute").read_bytes() == b"1"


def test_a_package_given_by_hand_needs_no_apt(make_deb, empty_cache, no_debian_tools) -> None:
    """With a neighbour beside it; guards machines without apt-get. Another file of that name is
    unpacked anew."""
    make_deb({"./n": b"2"}, name="neighbour", version="1%3a2-1")
    archive = make_deb({"./h": b"1"}, name="hello", version="3.2")
    hello, other = debian.packages(["hello", "absent|neighbour"], archive)
    assert (hello.version, (hello.root / "h").read_bytes()) == ("3.2", b"1")
    assert (other.version, (other.root / "n").read_bytes()) == ("1:2-1", b"2")
    assert debian.packages(["neighbour"], archive.parent)[0] == other
    again = debian.packages(["hello"], make_deb({"./h": b"2"}, name="hello", version="3.2"))[0]
    assert (again.root / "h").read_bytes() == b"2"
    with pytest.raises(CorpusError, match="no package file '.*absent.deb'"):
        debian.packages(["hello"], archive.with_name("absent.deb"))


def test_without_apt_the_error_names_the_archive_option(empty_cache, no_debian_tools) -> None:
    with pytest.raises(CorpusError, match=f"'{SMALL}' needs apt-get.*--archive FILE"):
        debian.packages([SMALL])


def test_no_network_is_named(empty_cache, monkeypatch) -> None:
    """A proxy where nobody listens stands for a network that is not there."""
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(CorpusError, match="cannot be reached; connect.*--archive FILE"):
        debian.packages([SMALL])


def test_fetching(empty_cache) -> None:
    """Really: an unknown package is named, alternatives are tried in order, the cache is reused,
    and a fetch that was killed is done again."""
    with pytest.raises(CorpusError, match="have no 'no-such-package-at-all'.*--archive"):
        debian.packages(["no-such-package-at-all"])
    code = f"from s3prl_speechclip.minis import debian; debian.packages(['{SMALL}'])"
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not list(empty_cache.glob(f"debian/*/.{SMALL}.partial")):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    fetched = debian.packages([f"no-such-package-at-all|{SMALL}"])[0]
    assert fetched.name == SMALL and fetched.version
    libraries = list(fetched.root.glob("usr/lib/*/libsonic.so.0"))
    assert len(libraries) == 1 and libraries[0].is_file()
    stamp = libraries[0].stat().st_mtime_ns
    assert debian.packages([SMALL])[0] == fetched
    assert libraries[0].stat().st_mtime_ns == stamp
