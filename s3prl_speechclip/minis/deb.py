"""Read a Debian package file without root: its control fields, its files.

A .deb is an `ar` archive of two tars, `control.tar.*` and `data.tar.*`. dpkg-deb decompresses them
where it is installed; elsewhere the standard library does, for every compression that it knows.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import CorpusError

MAGIC = b"!<arch>\n"
HEADER = 60  # bytes of an ar member header
COMPRESSIONS = {"": "", ".gz": "gz", ".xz": "xz", ".bz2": "bz2"}
if sys.version_info >= (3, 14):
    COMPRESSIONS[".zst"] = "zst"

DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, UnicodeDecodeError)


def control(archive: Path) -> dict[str, str]:
    """Read the control fields of a package file, such as Package and Version.

    Raises:
        CorpusError: the file is missing, damaged, or compressed in a way that nothing here reads.
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
        CorpusError: the file is missing, damaged, compressed in a way that nothing here reads, or
            has a member that would lie outside of the folder.
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
    """Place a member under the root.

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
            said = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise CorpusError(
                f"'{archive}' is damaged or cut short ({' '.join(said.split())}); fetch it again"
            ) from error
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
    """The bytes of one ar member, for reading forward."""

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
