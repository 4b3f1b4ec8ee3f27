"""Files that are no files of this machine: members of archives, read in place, and what fsspec reaches.

Such a file is named by one text: ``zip://member::/folder/a.zip``, ``tar://member::/folder/a.tar``, or a URL such as
``s3://bucket/key``; an archive may itself be at a URL. A name in an archive is never used as a path.
"""

from __future__ import annotations

import fnmatch
import gzip
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.files import removed_at_exit
from imagedata_xr.regular import open_regular
from imagedata_xr.remote import Status, UrlFile, below_url, check_secrets, filesystem_of, url_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydicom import Dataset

__all__ = [
    *("dcmread", "is_archive", "is_elsewhere", "is_file", "is_member", "list_source", "open_binary", "openers"),
    *("split_member", "status", "status_of", "statuses"),
]

_ZIP: Final = (".zip",)
_TAR: Final = (".tar", ".tar.gz", ".tgz")
_PATTERN: Final = re.compile(r"[*?]|/$|^$")
_FAILURES: Final = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile),
    *(NotImplementedError, RuntimeError, KeyError, OSError),
)


class _NoMemberError(UnreadableFileError, FileNotFoundError):
    """An archive has no member of a name."""


def is_elsewhere(path: str) -> bool:
    """Return whether a name is that of a member of an archive, or a URL.

    Examples
    --------
    >>> is_elsewhere("zip://IM1::/a.zip"), is_elsewhere("/a/IM1"), is_elsewhere("file:///a")
    (True, False, True)
    """
    return "://" in path


def is_archive(path: str) -> bool:
    """Return whether a name is that of an archive: zip, tar, tar.gz or tgz."""
    return path.lower().endswith(_ZIP + _TAR)


def list_source(source: str) -> list[str] | None:
    """Return the names of all files in an archive or below a URL, sorted; None for a plain file or folder.

    Parameters
    ----------
    source : str
        A path or URL. After an archive and a question mark a pattern may choose members: ``a.zip?time0*``; it is that
        of a member, or of a folder of them.

    Raises
    ------
    FileNotFoundError
        If there is no such archive, or nothing at the URL.
    UnreadableFileError
        If it cannot be listed.
    ValueError
        If the URL has a password in it.
    """
    place, pattern = source, ""
    if "?" in source and not Path(source).exists() and is_archive(source.partition("?")[0]):
        place, _, pattern = source.partition("?")
    if place.startswith("file://"):
        place = _local(place)
        if not is_archive(place):
            return [place] if Path(place).is_file() else list_below(place)
    if is_member(place):
        member, archive = split_member(place)
        # A server would be asked for each member of a list.
        is_one = member in _container(archive).members if not is_elsewhere(archive) else not _PATTERN.search(member)
        return [place] if is_one else _members(archive, member)
    if is_elsewhere(place) and "::" in place:
        return [place]
    if is_elsewhere(place):
        check_secrets(place)
        return _members(place, pattern) if is_archive(place) else below_url(place)
    if is_archive(place) and Path(place).is_file() and _is_packed(place):
        return _members(os.path.abspath(place), pattern)  # noqa: PTH100 - links stay links
    return None


def list_below(folder: str) -> list[str]:
    """Return all files below a folder, sorted."""
    return sorted(os.fspath(path) for path in Path(folder).rglob("*") if path.is_file())


def _is_packed(path: str) -> bool:
    """Whether a file is made as its name says, or is a DICOM file; what is neither is damaged, and raises."""
    if not path.lower().endswith(_ZIP) or zipfile.is_zipfile(path):
        return True
    with open(path, "rb") as file:
        if file.read(132)[128:] == b"DICM":
            return False
    msg = f"{path} has the name of a zip archive, and is none, or is cut short: fetch it again"
    raise UnreadableFileError(msg)


def _local(url: str) -> str:
    """Return the path that a file URL names, of what is there."""
    from urllib.request import url2pathname

    parts = urlsplit(url)
    path = url2pathname(parts.path)
    if not Path(path).exists() or parts.netloc not in ("", "localhost"):
        advice = "; a URL of a file has a whole path, file:///..., or give the path itself" if parts.netloc else ""
        msg = f"no such file or folder: {url!r}{advice}"
        raise FileNotFoundError(msg)
    return path


def _members(archive: str, pattern: str) -> list[str]:
    """Return the names of the files in an archive."""
    if not is_elsewhere(archive) and not Path(archive).is_file():
        msg = f"no such file: {archive!r}"
        raise FileNotFoundError(msg)
    found = _container(archive)
    kind = "zip" if archive.lower().endswith(_ZIP) else "tar"
    wanted = pattern.strip("/")
    names = [
        name
        for name in found.members
        if not wanted or fnmatch.fnmatchcase(name, wanted) or fnmatch.fnmatchcase(name, f"{wanted}/*")
    ]
    if wanted and not names:
        msg = f"nothing in {archive} is named {pattern!r}; there are {len(found.members)} files"
        raise FileNotFoundError(msg)
    return [f"{kind}://{name}::{archive}" for name in sorted(names)]


def split_member(name: str) -> tuple[str, str]:
    """Return member and archive of a name."""
    inner, _, archive = name.partition("://")[2].rpartition("::") if "::" in name else ("", "", name)
    return inner, archive


def is_member(name: str) -> bool:
    """Return whether a name is that of a member of an archive."""
    return name.startswith(("zip://", "tar://")) and "::" in name


class _Container:
    """An open archive: its members, and how each is opened."""

    def __init__(self, archive: str) -> None:
        self.members: dict[str, Callable[[], BinaryIO]] = {}
        self.sizes: dict[str, int] = {}
        self._open: list[Any] = []
        if archive.lower().endswith(_ZIP):
            # A path is closed when the last member is; what is at a URL is closed with this.
            outer = _outer(archive) if is_elsewhere(archive) else None
            packed = zipfile.ZipFile(outer or archive)
            self._open = [packed, *([outer] if outer else [])]
            for info in packed.infolist():
                if not info.is_dir():
                    self._add(info.filename, info.file_size, partial(_member, packed, info))
            return
        plain = archive
        if not archive.lower().endswith(".tar"):
            # No place in a packed stream can be found without all before it, so it is unpacked once.
            plain = _unpacked(archive, *status(archive))
        with _outer(plain) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    place = partial(_part, plain, member.offset_data, member.size)
                    self._add(member.name, member.size, place)

    def __del__(self) -> None:
        for file in getattr(self, "_open", []):
            file.close()

    def _add(self, name: str, size: int, opened: Callable[[], BinaryIO]) -> None:
        # Of two members of one name the first keeps it: no file is lost.
        number, free = 1, name
        while free in self.members:
            number += 1
            free = f"{name}#{number}"
        self.members[free], self.sizes[free] = opened, size


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Member(archive.open(info), info.file_size)))


def _part(path: str, offset: int, size: int) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Part(path, offset, size)))


class _Member(io.RawIOBase):
    """A member of a zip, whose damage is an error of a file as any other."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size
        self.name = str(file.name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the member; what is before it has to be unpacked."""
        at: int = self._file.tell()
        place = min(max(0, offset + (0, at, self._size)[whence]), self._size)
        if place < at:
            at = self._guarded(self._file.seek, place)
        # Some versions of Python (3.12.1, 3.13.0) lose the place where they skip what is not packed.
        while at < place and (piece := self._guarded(self._file.read, min(_BLOCK, place - at))):
            at += len(piece)
        return at

    def readinto(self, buffer: Any) -> int:
        """Read as far as the buffer goes."""
        count: int = self._guarded(self._file.readinto, buffer)
        return count

    def _guarded(self, do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except _FAILURES as err:
            msg = f"cannot unpack {self._file.name}: {err}"
            raise UnreadableFileError(msg) from err

    def close(self) -> None:
        """Close the member."""
        self._file.close()
        super().close()


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = _outer(path), offset, size, 0
        self.name = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the part."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read what is left of the part, as far as the buffer goes."""
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        self._file.seek(self._offset + self._at)
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


_BLOCK: Final = 1 << 16
"""Bytes that are fetched where fewer are read of an archive: its entries are small and lie together."""
_HEAD: Final = 1 << 14
"""Bytes that are fetched where fewer are read of a file: a head has no more; a frame comes in one piece."""
_OPENED_AHEAD: Final = 16


def _outer(path: str, block: int = _BLOCK) -> BinaryIO:
    """Return a file of this machine or at a URL, open."""
    if not is_elsewhere(path):
        return open_regular(path)
    filesystem, name = filesystem_of(path)
    if getattr(filesystem, "reads_stop_before_pixels", False):  # a buffer would read on
        return cast("BinaryIO", filesystem.open(name))
    return cast("BinaryIO", io.BufferedReader(UrlFile(path), block))


def openers(paths: Iterable[str]) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """Give paths, each with a function that opens it.

    Of files at URLs, the next ones are opened meanwhile and their first bytes fetched, several at once: a server far
    away is slow to answer, not to send.
    """
    ahead: deque[tuple[str, Callable[[], BinaryIO]]] = deque()
    pool: ThreadPoolExecutor | None = None
    try:
        for path in paths:
            if is_elsewhere(path) and not is_member(path) and filesystem_of(path)[0].async_impl:
                pool = pool or ThreadPoolExecutor(_OPENED_AHEAD)
                ahead.append((path, pool.submit(_with_first_bytes, path).result))
            else:
                ahead.append((path, partial(open_binary, path)))
            if len(ahead) > _OPENED_AHEAD:
                yield ahead.popleft()
        yield from ahead
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _with_first_bytes(url: str) -> BinaryIO:
    file = io.BufferedReader(UrlFile(url, is_listed=True), _HEAD)
    file.peek(1)
    return cast("BinaryIO", file)


_LOCK = threading.Lock()


def _container(archive: str) -> _Container:
    """Return an archive, opened once for each version of it."""
    try:
        with _LOCK:
            return _opened_container(archive, status(archive))
    except UnreadableFileError:
        raise
    except _FAILURES as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else err
        msg = f"cannot unpack {archive}: {reason}"
        raise UnreadableFileError(msg) from err


@lru_cache(maxsize=16)
def _opened_container(archive: str, _version: Status) -> _Container:
    return _Container(archive)


@lru_cache(maxsize=16)
def _unpacked(archive: str, _size: int, _version: int) -> str:
    """Return a temporary file with what is in a packed tar, gone when the process ends.

    Raises
    ------
    UnreadableFileError
        If it does not fit on the disk.
    """
    room = shutil.disk_usage(tempfile.gettempdir()).free * 9 // 10
    with _outer(archive) as packed, gzip.GzipFile(fileobj=packed) as plain:
        handle, name = tempfile.mkstemp(prefix="imagedata_xr-", suffix=".tar")
        removed_at_exit(name)
        try:
            with os.fdopen(handle, "wb") as file:
                while block := plain.read(1 << 20):
                    file.write(block)
                    room -= len(block)
                    if room < 0:
                        msg = f"{archive} unpacks to more than the disk at {Path(name).parent} holds"
                        raise UnreadableFileError(msg)
        except BaseException:
            Path(name).unlink()
            raise
    return name


def open_binary(path: str) -> BinaryIO:
    """Return a file open for reading: of this machine, a member of an archive, or at a URL.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    if not is_elsewhere(path):
        return open_regular(path)
    if not is_member(path):
        return _outer(path, _HEAD)
    member, archive = split_member(path)
    found = _container(archive)
    if member not in found.members:
        msg = f"{archive} has no member {member!r}, or not any more; a folder in it is '{archive}?{member}'"
        raise _NoMemberError(msg)
    try:
        return found.members[member]()
    except _FAILURES as err:
        msg = f"cannot unpack {path}: {err}"
        raise UnreadableFileError(msg) from err


def dcmread(path: str, **options: Any) -> Dataset:
    """Return what `pydicom.dcmread` reads from a file, wherever it is."""
    import pydicom

    with open_binary(path) as file:
        return pydicom.dcmread(file, **options)


def status(path: str, *, is_listed: bool = False) -> Status:
    """Return size [bytes] and version of a file; the version changes with the file: ns, or what a server tells.

    A server is not asked about a file that was listed just now.
    """
    if not is_elsewhere(path):
        found = os.stat(path)  # noqa: PTH116 - a Path a file costs as much as the rest
        return Status(found.st_size, found.st_mtime_ns)
    if is_member(path):
        member, archive = split_member(path)
        container = _container(archive)
        if member not in container.sizes:
            msg = f"{archive} has no member {member!r}, or not any more; a folder in it is '{archive}?{member}'"
            raise _NoMemberError(msg)
        return Status(container.sizes[member], status(archive).version)
    return url_status(path, is_listed=is_listed)


def statuses(paths: Iterable[str]) -> tuple[list[int], list[int]]:
    """Return sizes and versions of files that were listed just now, see `status`; -1 of one that cannot be asked."""
    # Not a tuple of each: of thousands of objects that may refer to others the garbage is looked for.
    sizes: list[int] = []
    versions: list[int] = []
    folder, handle = "", None
    try:
        for path in paths:
            start = path.rfind(os.sep) + 1
            if path[:start] != folder:
                folder = path[:start]
                if handle is not None:
                    os.close(handle)
                handle = _handle_of(folder)
            try:
                if handle is None:
                    size, version = status(path, is_listed=True)
                else:
                    # By its name in an open folder: the folders above need not be found again for each.
                    told = os.stat(path[start:], dir_fd=handle)
                    size, version = told.st_size, told.st_mtime_ns
            except OSError:
                size = version = -1
            sizes.append(size)
            versions.append(version)
    finally:
        if handle is not None:
            os.close(handle)
    return sizes, versions


def _handle_of(folder: str) -> int | None:
    """Return an open folder, None where files cannot be asked by their names in it."""
    if is_elsewhere(folder) or os.stat not in os.supports_dir_fd:
        return None
    try:
        return os.open(folder, getattr(os, "O_PATH", os.O_RDONLY))  # O_PATH: one that cannot be listed, too
    except OSError:
        return None


def status_of(file: BinaryIO, path: str) -> Status:
    """Return the `status` of an open file, without asking a server again."""
    raw = getattr(file, "raw", None)
    return raw.status if isinstance(raw, UrlFile) else status(path)


def is_file(path: str) -> bool:
    """Return whether a file is there."""
    if not is_elsewhere(path):
        try:
            return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as in status
        except OSError:
            return False
    try:
        status(path)
    except (OSError, ValueError):
        return False
    return True
