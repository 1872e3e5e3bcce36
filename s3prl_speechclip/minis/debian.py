"""Debian packages without root: fetched by apt-get into the cache, unpacked there, reused.

apt-get works on folders of its own and on the machine's own list of sources, so that what comes
fits the machine's release and architecture; it verifies what it downloads. A machine without
apt-get takes package files that were downloaded by hand.

A .deb is an `ar` archive of two tars, `control.tar.*` and `data.tar.*`. dpkg-deb decompresses them
where it is installed; elsewhere the standard library does, for every compression that it knows.
"""

from __future__ import annotations

import logging
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import IO

from ..data.cache import cache_home, check_owner, disk_full, locked, made_once, writing
from ..errors import CorpusError
from ..hashing import file_hash

logger = logging.getLogger(__name__)

MAGIC = b"!<arch>\n"
HEADER = 60  # bytes of an ar member header
COMPRESSIONS = {"": "", ".gz": "gz", ".xz": "xz", ".bz2": "bz2"}
if sys.version_info >= (3, 14):
    COMPRESSIONS[".zst"] = "zst"

DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, UnicodeDecodeError)
NO_SPACE = re.compile(r"no space left|enough free space|quota exceeded", re.IGNORECASE)
NO_NETWORK = re.compile(
    r"failed to fetch|could not (connect|resolve)|temporary failure|unreachable|timed out",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Package:
    """An unpacked package."""

    name: str
    version: str
    root: Path
    """The folder that stands for the file system's root."""


def packages(wanted: Sequence[str], archive: Path | None = None) -> tuple[Package, ...]:
    """Return unpacked packages, fetching those that are not in the cache.

    Args:
        wanted: package names; alternatives are separated by `|`, the first that exists is taken.
        archive: a .deb file, or a folder of them. Packages that it does not hold are looked for
            beside it, then fetched.

    Returns:
        One package for each name, in order.

    Raises:
        CorpusError: a package cannot be fetched; the message names the remedy.
    """
    if archive is not None and not archive.exists():
        raise CorpusError(f"there is no package file '{archive}'; give the path of a .deb file")
    by_hand = _by_hand(archive) if archive is not None else {}
    apt = _apt(cache_home() / "debian" / _system())
    return tuple(_package(name.split("|"), by_hand, apt) for name in wanted)


def _package(names: Sequence[str], by_hand: dict[str, Path], apt: _Apt) -> Package:
    for name in names:
        if name in by_hand:
            return _from_file(name, by_hand[name])
    for name in names:
        folder = apt.home / name
        if folder.is_dir():
            return _unpacked(name, folder)
    for name in names:
        try:
            folder = made_once(apt.home / name, partial(_fetch, name, apt))
            return _unpacked(name, folder)
        except _NoSuchPackage:
            continue
    raise CorpusError(
        f"this machine's package sources have no '{' or '.join(names)}'; {_remedy(names[0])}"
    )


def _fetch(name: str, apt: _Apt, folder: Path) -> None:
    archive = apt.download(name, folder)
    _unpack(archive, folder)
    archive.unlink()


def _unpack(archive: Path, folder: Path) -> None:
    fields = control(archive)
    unpack(archive, folder / "root")
    (folder / "version").write_text(fields.get("Version", "unknown"), encoding="utf-8")


def _unpacked(name: str, folder: Path) -> Package:
    check_owner(folder)
    return Package(name, (folder / "version").read_text(encoding="utf-8"), folder / "root")


def _by_hand(archive: Path) -> dict[str, Path]:
    """Find the package files that the user gave, and those beside them, by package name."""
    if archive.is_dir():
        found = sorted(archive.glob("*.deb"))
        if not found:
            raise CorpusError(f"the folder '{archive}' holds no .deb file")
        return {control(path).get("Package", path.name): path for path in found}
    beside = {p.name.partition("_")[0]: p for p in sorted(archive.absolute().parent.glob("*.deb"))}
    return {**beside, control(archive).get("Package", archive.name): archive}


def _from_file(name: str, archive: Path) -> Package:
    folder = cache_home() / "debian" / "by-hand" / f"{name}-{file_hash(archive)[:16]}"
    return _unpacked(name, made_once(folder, lambda to: _unpack(archive, to)))


class _NoSuchPackage(Exception):
    """The package sources do not have the package."""


class _Apt:
    """apt-get on folders of its own under `home`; the package lists are read once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._listed = False

    def download(self, name: str, folder: Path) -> Path:
        """Download one package file, verified by apt.

        Raises:
            _NoSuchPackage: the sources were read and do not have it.
            CorpusError: no apt-get, no network, no space.
        """
        if shutil.which("apt-get") is None:
            raise CorpusError(f"'{name}' needs apt-get, which is not here; {_remedy(name)}")
        with writing(self.home), locked(self.home / ".apt.lock"):
            for part in ("lists/partial", "cache/archives/partial"):
                (self.home / "apt" / part).mkdir(parents=True, exist_ok=True)
            if not self._listed:
                logger.info("reading the package lists")
                done = self._run("update", self.home)
                # One source of the user's that fails is no reason to stop, as long as another
                # has the package.
                self._listed = not NO_NETWORK.search(done.stdout)
                self._check_space(done)
            logger.info("downloading %s", name)
            done = self._run("download", folder, name)
            self._check_space(done)
        found = list(folder.glob("*.deb"))
        if done.returncode == 0 and found:
            return found[0]
        if NO_NETWORK.search(done.stdout) or not self._listed:
            raise CorpusError(
                f"cannot download '{name}': the package sources cannot be reached; "
                f"connect to the network, or {_remedy(name)}"
            )
        if re.search(r"unable to locate|no candidate|select candidate", done.stdout, re.IGNORECASE):
            raise _NoSuchPackage(name)
        reasons = [line for line in done.stdout.splitlines() if line.startswith("E:")]
        reason = reasons[0] if reasons else "no reason given"
        raise CorpusError(f"apt-get cannot download '{name}' ({reason}); {_remedy(name)}")

    def _run(self, command: str, folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
        state = self.home / "apt"
        options = {
            "Dir::State": state,
            "Dir::State::Lists": state / "lists",
            "Dir::Cache": state / "cache",
            "Acquire::GzipIndexes": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": 2,
            "Acquire::http::Timeout": 30,
            "Acquire::https::Timeout": 30,
            "Dpkg::Use-Pty": 0,
        }
        if os.getuid() == 0:
            # apt's own user may not enter root's home, where the cache lies.
            options["APT::Sandbox::User"] = "root"
        arguments = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return subprocess.run(
            ["apt-get", "-q", *arguments, command, *names],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    def _check_space(self, done: subprocess.CompletedProcess[str]) -> None:
        if NO_SPACE.search(done.stdout):
            raise disk_full(self.home)


@cache
def _apt(home: Path) -> _Apt:
    return _Apt(home)


def _remedy(name: str) -> str:
    return (
        f"download Debian's package '{name}' (.deb) on another machine and give it with "
        "--archive FILE, the packages that it needs beside it"
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


def control(archive: Path) -> dict[str, str]:
    """Read the control fields of a package file, such as Package and Version.

    Raises:
        CorpusError: the file is missing, damaged, or compressed in an unknown way.
    """
    with _reading(archive), _tar(archive, "control", "--ctrl-tarfile") as tar:
        for member in tar:
            if os.path.normpath(member.name) == "control":
                text = tar.extractfile(member)
                if text is not None:
                    return _fields(text.read().decode("utf-8"))
    raise CorpusError(f"'{archive}' has no control file; fetch the package again")


def unpack(archive: Path, folder: Path) -> None:
    """Write a package's files and relative links under a folder; nothing is ever written outside.

    Raises:
        CorpusError: the file is missing, damaged, compressed in an unknown way, or has a
            member that would lie outside of the folder.
    """
    root = folder.resolve()
    with _reading(archive), _tar(archive, "data", "--fsys-tarfile") as tar:
        for member in tar:
            _extract(tar, member, root, archive)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, archive: Path) -> None:
    target = _inside(root, member.name, archive)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        if not os.path.isabs(member.linkname):
            _inside(root, os.path.join(os.path.dirname(member.name), member.linkname), archive)
            target.symlink_to(member.linkname)
    elif member.islnk():
        os.link(_inside(root, member.linkname, archive), target)
    elif member.isfile():
        source = tar.extractfile(member)
        assert source is not None
        with open(target, "xb") as out:
            shutil.copyfileobj(source, out, 1 << 20)


def _inside(root: Path, name: str, archive: Path) -> Path:
    """Return the place of a member under the root.

    The parent is resolved on the disk, not in the text alone: a link that was unpacked before may
    lead elsewhere.
    """
    place = root / name.lstrip("/")
    parent = Path(os.path.realpath(place.parent))
    resolved = Path(os.path.normpath(parent / place.name))
    if resolved != root and root not in resolved.parents:
        raise CorpusError(
            f"'{archive}' is not safe: its member '{name}' would lie outside of the folder that "
            "it is unpacked to; get the package from your distribution"
        )
    return resolved


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise CorpusError(
            f"'{archive}' is damaged or cut short ({' '.join(str(error).split())}); fetch it again"
        ) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename is None or Path(error.filename) != archive:
            raise
        raise CorpusError(f"cannot read the package '{archive}': {error.strerror}") from error


@contextmanager
def _tar(archive: Path, part: str, dpkg_option: str) -> Iterator[tarfile.TarFile]:
    offset, size, suffix = _member(archive, part)
    if shutil.which("dpkg-deb"):
        process = subprocess.Popen(
            ["dpkg-deb", dpkg_option, str(archive)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert process.stdout is not None and process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield tar
        except DAMAGED as error:
            process.stdout.close()
            reason = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise tarfile.TarError(reason) from error
        finally:
            process.stdout.close()
            process.stderr.close()
            process.wait()
        return
    if suffix not in COMPRESSIONS:
        raise CorpusError(
            f"'{archive}' is compressed as '{suffix.lstrip('.')}', which this Python cannot read; "
            "install dpkg, or give a package that is compressed as xz or gz"
        )
    with open(archive, "rb") as handle:
        handle.seek(offset)
        with tarfile.open(fileobj=_Window(handle, size), mode=f"r|{COMPRESSIONS[suffix]}") as tar:  # type: ignore[call-overload]
            yield tar


class _Window:
    """The bytes of one ar member, for sequential reading."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle = handle
        self._left = size

    def read(self, size: int) -> bytes:
        data = self._handle.read(min(size, self._left))
        self._left -= len(data)
        return data


def _member(archive: Path, part: str) -> tuple[int, int, str]:
    """Find `part`.tar.* in the ar archive: its offset and size in bytes, and its suffix."""
    total = archive.stat().st_size
    with open(archive, "rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise CorpusError(f"'{archive}' is not a Debian package (.deb)")
        offset = len(MAGIC)
        while len(header := handle.read(HEADER)) == HEADER:
            try:
                name = header[:16].decode("ascii").strip().rstrip("/")
                size = int(header[48:58])
            except ValueError as error:
                raise CorpusError(f"'{archive}' is damaged; fetch it again") from error
            offset += HEADER
            if offset + size > total:
                raise CorpusError(
                    f"'{archive}' is cut short: expected {offset + size} bytes or more, found "
                    f"{total}; fetch it again"
                )
            stem, _, suffix = name.partition(".tar")
            if stem == part:
                return offset, size, suffix
            offset += size + size % 2
            handle.seek(offset)
    raise CorpusError(f"'{archive}' has no {part}.tar; it is no whole Debian package (.deb)")


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if line[:1].strip())
    return {name.strip(): value.strip() for name, _, value in lines}
