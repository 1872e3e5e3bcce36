"""Debian packages without root: fetched by apt-get into the cache, unpacked there, reused.

apt-get works on folders of its own and on the machine's own list of sources, so that what comes
fits the machine's release and architecture; it verifies what it downloads. A machine without
apt-get takes package files that were downloaded by hand.

A .deb, called `NAME_VERSION_ARCHITECTURE.deb`, is an `ar` archive that holds `data.tar.*`. The
standard library reads it; dpkg-deb decompresses what this Python cannot, such as zstd.
"""

from __future__ import annotations

import io
import logging
import lzma
import os
import platform
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from ..data.cache import cache_home, disk_full, locked, made_once, writing
from ..errors import CorpusError
from ..hashing import file_hash

logger = logging.getLogger(__name__)

MAGIC = b"!<arch>\n"
HEADER = 60  # bytes of an ar member header
COMPRESSIONS = ("", ".gz", ".xz", ".bz2")
DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError)
NO_SPACE = re.compile(r"no space left|enough free space|quota exceeded", re.IGNORECASE)
NO_NETWORK = re.compile(
    r"failed to fetch|could not (connect|resolve)|temporary failure|unreachable|timed out",
    re.IGNORECASE,
)
ABSENT = re.compile(r"unable to locate|no candidate|select candidate", re.IGNORECASE)
OPTIONS = {
    "Acquire::GzipIndexes": "true",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
    "Acquire::http::Timeout": "30",
    "Acquire::https::Timeout": "30",
    "Dpkg::Use-Pty": "0",
}

_listed: set[Path] = set()
"""apt folders whose package lists this process has read."""


@dataclass(frozen=True)
class Package:
    """An unpacked package."""

    name: str
    version: str
    root: Path
    """The folder that stands for the file system's root."""

    def find(self, pattern: str) -> Path:
        """Return the first file or folder of a pattern, relative to the root."""
        found = sorted(self.root.glob(pattern))
        if not found:
            raise CorpusError(
                f"the package '{self.name}' {self.version} holds no '{pattern}'; give another "
                "version of it with --archive FILE"
            )
        return found[0]


def packages(wanted: Sequence[str], archive: Path | None = None) -> tuple[Package, ...]:
    """Return unpacked packages, fetching those that are not in the cache.

    Args:
        wanted: package names; alternatives are separated by `|`, the first that exists is taken.
        archive: a .deb file or a folder of them; packages that are not there are fetched.

    Returns:
        One package for each name, in order.

    Raises:
        CorpusError: a package cannot be fetched; the message names the remedy.
    """
    by_hand = _by_hand(archive) if archive is not None else {}
    return tuple(_package(name.split("|"), by_hand) for name in wanted)


def _package(names: Sequence[str], by_hand: Mapping[str, Path]) -> Package:
    for name in names:
        if name in by_hand:
            folder = cache_home() / "debian/by-hand" / f"{name}-{file_hash(by_hand[name])[:16]}"
            return _unpacked(name, made_once(folder, partial(_unpack, by_hand[name])))
    home = cache_home() / "debian" / _system()
    for name in sorted(names, key=lambda name: not (home / name).is_dir()):
        try:
            return _unpacked(name, made_once(home / name, partial(_fetch, name, home)))
        except _NoSuchPackage:
            continue
    raise CorpusError(
        f"this machine's package sources have no '{' or '.join(names)}'; {_remedy(names[0])}"
    )


def _fetch(name: str, home: Path, folder: Path) -> None:
    archive = _download(name, home, folder)
    _unpack(archive, folder)
    archive.unlink()


def _unpack(archive: Path, folder: Path) -> None:
    unpack(archive, folder / "root")
    (folder / "version").write_text(unquote(archive.name.split("_")[1]), encoding="utf-8")


def _unpacked(name: str, folder: Path) -> Package:
    return Package(name, (folder / "version").read_text(encoding="utf-8"), folder / "root")


def _by_hand(archive: Path) -> dict[str, Path]:
    """Find the package files that the user gave, and those beside them, by package name."""
    if archive.is_dir():
        files = sorted(archive.glob("*_*.deb"))
    else:
        files = [*sorted(archive.absolute().parent.glob("*_*.deb")), archive]
    if not archive.exists() or not files:
        raise CorpusError(f"there is no package file '{archive}', called NAME_VERSION_ARCH.deb")
    return {path.name.partition("_")[0]: path for path in files}


class _NoSuchPackage(Exception):
    """The package sources do not have the package."""


def _download(name: str, home: Path, folder: Path) -> Path:
    """Download one package file, verified by apt."""
    if shutil.which("apt-get") is None:
        raise CorpusError(f"'{name}' needs apt-get, which is not here; {_remedy(name)}")
    with writing(home), locked(home / ".apt.lock"):
        for part in ("lists/partial", "cache/archives/partial"):
            (home / "apt" / part).mkdir(parents=True, exist_ok=True)
        if home not in _listed:
            logger.info("reading the package lists")
            # One source of the user's that fails is no reason to stop, as long as another has the
            # package.
            if not NO_NETWORK.search(_apt_get(home, home, "update").stdout):
                _listed.add(home)
        logger.info("downloading %s", name)
        done = _apt_get(home, folder, "download", name)
    found = list(folder.glob("*.deb"))
    if done.returncode == 0 and found:
        return found[0]
    if NO_NETWORK.search(done.stdout) or home not in _listed:
        raise CorpusError(
            f"cannot download '{name}': the package sources cannot be reached; "
            f"connect to the network, or {_remedy(name)}"
        )
    if ABSENT.search(done.stdout):
        raise _NoSuchPackage(name)
    reasons = (line for line in done.stdout.splitlines() if line.startswith("E:"))
    reason = next(reasons, "no reason given")
    raise CorpusError(f"apt-get cannot download '{name}' ({reason}); {_remedy(name)}")


def _apt_get(home: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run apt-get in a folder, its state and cache under `home`."""
    apt = home / "apt"
    places = {"Dir::State": apt, "Dir::State::Lists": apt / "lists", "Dir::Cache": apt / "cache"}
    options = [f"-o{key}={value}" for key, value in (places | OPTIONS).items()]
    if os.getuid() == 0:
        # apt's own user may not enter root's home, where the cache lies.
        options.append("-oAPT::Sandbox::User=root")
    done = subprocess.run(
        ["apt-get", "-q", *options, *arguments],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if NO_SPACE.search(done.stdout):
        raise disk_full(home)
    return done


def _remedy(name: str) -> str:
    return (
        f"download Debian's package '{name}' (.deb) on another machine and give it, under its own "
        "name, with --archive FILE, the packages that it needs beside it"
    )


def _system() -> str:
    """Return release and architecture: machines of several may share a home."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return "-".join(
        (release.get("ID", "linux"), release.get("VERSION_ID", "rolling"), platform.machine())
    )


def unpack(archive: Path, folder: Path) -> None:
    """Write a package's files and relative links under a folder; nothing is ever written outside.

    Raises:
        CorpusError: the file is missing, damaged, compressed in an unknown way, or has a
            member that would lie outside of the folder.
    """
    # tarfile's own filter is not in every Python 3.10 and 3.11.
    root = folder.resolve()
    with _tar(archive) as tar:
        for member in tar:
            target = _inside(root, archive, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym() and not os.path.isabs(member.linkname):
                beside = os.path.join(os.path.dirname(member.name), member.linkname)
                _inside(root, archive, beside)
                target.symlink_to(member.linkname)
            elif member.islnk():
                os.link(_inside(root, archive, member.linkname), target)
            elif (source := tar.extractfile(member) if member.isfile() else None) is not None:
                with open(target, "xb") as out:
                    shutil.copyfileobj(source, out)


def _inside(root: Path, archive: Path, name: str) -> Path:
    """Return the place of a member under the root.

    The parent is resolved on the disk: a link that was unpacked before may lead elsewhere.
    """
    place = root / name.lstrip("/")
    resolved = Path(os.path.normpath(Path(os.path.realpath(place.parent)) / place.name))
    if resolved != root and root not in resolved.parents:
        raise CorpusError(
            f"'{archive}' is not safe: its member '{name}' would lie outside of the folder that "
            "it is unpacked to; get the package from your distribution"
        )
    return resolved


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open the files of a package."""
    try:
        data, suffix = _data(archive)
        if suffix not in COMPRESSIONS:
            if not shutil.which("dpkg-deb"):
                raise CorpusError(
                    f"'{archive}' is compressed as '{suffix[1:]}', which this Python cannot read; "
                    "install dpkg, or give a package that is compressed as xz or gz"
                )
            command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
            data = subprocess.run(command, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            yield tar
    except (*DAMAGED, subprocess.CalledProcessError) as error:
        raise CorpusError(
            f"'{archive}' is damaged, or no Debian package (.deb): {' '.join(str(error).split())}; "
            "fetch it again"
        ) from error


def _data(archive: Path) -> tuple[bytes, str]:
    """Read data.tar.* of the ar archive: its bytes and its suffix."""
    with open(archive, "rb") as handle:
        if handle.read(len(MAGIC)) == MAGIC:
            while len(header := handle.read(HEADER)) == HEADER:
                name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
                stem, _, suffix = name.partition(".tar")
                if stem == "data":
                    return handle.read(size), suffix
                handle.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("it has no data.tar")
