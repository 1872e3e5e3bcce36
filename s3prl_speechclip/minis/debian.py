"""Debian packages without root: fetched by apt-get into the cache, unpacked there, reused.

apt-get works on folders of its own and on the machine's own list of sources, so that what comes
fits the machine's release and architecture; it verifies what it downloads. A machine without
apt-get takes package files that were downloaded by hand.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.cache import cache_home, disk_full, locked, made_once, writing
from ..errors import CorpusError
from . import deb

logger = logging.getLogger(__name__)

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
    """Give unpacked packages, fetching those that are not in the cache.

    Args:
        wanted: package names; alternatives are parted by `|`, and the first that there is wins.
        archive: a .deb file given by hand, or a folder of them. Packages that it does not hold
            are looked for beside it, then fetched.

    Returns:
        One package for each name, in order.

    Raises:
        CorpusError: a package cannot be had; the message names the remedy.
    """
    if archive is not None and not archive.exists():
        raise CorpusError(f"there is no package file '{archive}'; give the path of a .deb file")
    by_hand = _by_hand(archive) if archive is not None else {}
    apt = _Apt(cache_home() / "debian" / _system())
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
    fields = deb.control(archive)
    deb.unpack(archive, folder / "root")
    (folder / "version").write_text(fields.get("Version", "unknown"), encoding="utf-8")


def _unpacked(name: str, folder: Path) -> Package:
    return Package(name, (folder / "version").read_text(encoding="utf-8"), folder / "root")


def _by_hand(archive: Path) -> dict[str, Path]:
    """Find the package files that the user gave, and those beside them, by package name."""
    if archive.is_dir():
        found = sorted(archive.glob("*.deb"))
        if not found:
            raise CorpusError(f"the folder '{archive}' holds no .deb file")
        return {deb.control(path).get("Package", path.name): path for path in found}
    beside = {p.name.partition("_")[0]: p for p in sorted(archive.absolute().parent.glob("*.deb"))}
    return {**beside, deb.control(archive).get("Package", archive.name): archive}


def _from_file(name: str, archive: Path) -> Package:
    with open(archive, "rb") as handle:
        digest = hashlib.sha256()
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    folder = cache_home() / "debian" / "by-hand" / f"{name}-{digest.hexdigest()[:16]}"
    return _unpacked(name, made_once(folder, lambda to: _unpack(archive, to)))


class _NoSuchPackage(Exception):
    """The package sources do not have it."""


class _Apt:
    """apt-get on folders of its own under `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._failures: str | None = None

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
            if self._failures is None:
                logger.info("reading the package lists")
                done = self._run("update", self.home)
                # One source of the user's that fails is no reason to stop: what counts is
                # whether the package can be had.
                self._failures = done.stdout if NO_NETWORK.search(done.stdout) else ""
                self._check_space(done)
            logger.info("downloading %s", name)
            done = self._run("download", folder, name)
            self._check_space(done)
        found = list(folder.glob("*.deb"))
        if done.returncode == 0 and found:
            return found[0]
        if NO_NETWORK.search(done.stdout) or self._failures:
            raise CorpusError(
                f"cannot download '{name}': the package sources cannot be reached; "
                f"connect to the network, or {_remedy(name)}"
            )
        if re.search(r"unable to locate|no candidate|select candidate", done.stdout, re.IGNORECASE):
            raise _NoSuchPackage(name)
        said = [line for line in done.stdout.splitlines() if line.startswith("E:")] or ["no reason"]
        raise CorpusError(f"apt-get cannot download '{name}' ({said[0]}); {_remedy(name)}")

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


def _remedy(name: str) -> str:
    return (
        f"download Debian's package '{name}' (.deb) on another machine and give it with "
        "--archive FILE, the packages that it needs beside it"
    )


def _system() -> str:
    """Name the release and architecture: a home may be shared by machines of several."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return "-".join(
        (release.get("ID", "linux"), release.get("VERSION_ID", "rolling"), platform.machine())
    )
