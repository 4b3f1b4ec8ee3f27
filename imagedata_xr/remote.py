"""What fsspec reaches: files at URLs, of which no more is fetched than is read."""

from __future__ import annotations

import io
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from imagedata_xr.errors import MixedSeriesError, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "UNKNOWN_VERSION",
    "Status",
    "UrlFile",
    "below_url",
    "check_secrets",
    "filesystem_of",
    "url_status",
    "urls_of_pattern",
]


_TELL_VERSIONS: Final = (
    *("mtime", "created", "updated", "generation"),  # local files, memory, Google
    *("LastModified", "last_modified", "ETag", "etag"),  # S3, Azure
    *("Last-Modified", "Content-MD5", "Digest"),  # HTTP
    *("modify", "modificationTime"),  # FTP, WebHDFS
)
"""What file systems call what changes with a file."""


UNKNOWN_VERSION: Final = -1
"""That of a file of which a server tells nothing that changes with it: it may be another one each time."""


class Status(NamedTuple):
    """Size [bytes] of a file, and a number that changes with it, or `UNKNOWN_VERSION`."""

    size: int
    version: int


class UrlFile(io.RawIOBase):
    """A file at a URL, of which the ranges are fetched that are read, and nothing beside them.

    Parameters
    ----------
    url : str
        The file.
    is_listed : bool
        Whether it was listed just now, and so is what the listing said of it.
    """

    def __init__(self, url: str, *, is_listed: bool = False) -> None:
        self.name, self.status, self._at = url, url_status(url, is_listed=is_listed), 0
        self._filesystem, self._path = filesystem_of(url)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file."""
        self._at = max(0, offset + (0, self._at, self.status.size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fetch what is left of the file, as far as the buffer goes.

        Raises
        ------
        UnreadableFileError
            If the server sends another number of bytes than it was asked for.
        """
        end = min(self._at + len(buffer), self.status.size)
        if end <= self._at:
            return 0
        with _named(self.name):
            data = self._filesystem.cat_file(self._path, start=self._at, end=end)
        if len(data) == self.status.size:  # a server that knows no ranges
            data = data[self._at : end]
        if len(data) != end - self._at:  # such as a page that asks for a password
            msg = (
                f"{self.name}: the server has sent {len(data)} bytes, asked for {end - self._at} of {self.status.size}"
            )
            raise UnreadableFileError(msg)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Raise what is no error of a file as one: file systems raise whatever the libraries of their servers do."""
    try:
        yield
    except TimeoutError as err:
        if str(err):
            raise
        msg = f"cannot fetch {url}: the server did not answer in time"
        raise UnreadableFileError(msg) from err
    except FileNotFoundError as err:
        if err.__cause__ is None:
            raise
        # fsspec says so of every failure of HTTP, and only the cause says which it was.
        raise FileNotFoundError(str(err.__cause__) or type(err.__cause__).__name__) from err.__cause__
    except (OSError, MixedSeriesError):  # of several series our own file system of DICOMweb says so
        raise
    except Exception as err:
        msg = f"cannot fetch {url}: {type(err).__name__}: {err}"
        raise UnreadableFileError(msg) from err


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it."""
    import fsspec

    found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    return found


def url_status(url: str, *, is_listed: bool = False) -> Status:
    """Return size [bytes] and version of a file, which is what the server tells of it: now, or when it was listed."""
    with _named(url):
        filesystem, name = filesystem_of(url)
        if not is_listed:
            filesystem.invalidate_cache(filesystem._parent(name))
        info = filesystem.info(name)
        told = [str(info.get(key, "")) for key in _TELL_VERSIONS]
        size = info.get("size")
        if size is None:  # a server that does not say before it has sent all
            size = len(filesystem.cat_file(name))
    return Status(int(size), zlib.crc32("|".join(told).encode()) if any(told) else UNKNOWN_VERSION)


def check_secrets(url: str) -> None:
    """Raise ValueError for a URL with a password, which would be seen wherever the image's source is."""
    parts = urlsplit(url)
    if parts.password is not None or (parts.username and parts.scheme not in ("ssh", "sftp")):
        msg = f"the {parts.scheme} URL has a user or password in it, and names are shown; configure fsspec"
        raise ValueError(msg)


def below_url(url: str) -> list[str]:
    """Return the URLs of all files at and below a URL.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    UnreadableFileError
        If it is a folder that cannot be listed, as that of a web server.
    """
    if url.startswith(("http://", "https://")):
        if url.endswith("/"):
            msg = f"{url} is a folder, and a web server does not list those; give a list of URLs, or an archive"
            raise UnreadableFileError(msg)
        return [url]  # a web server tells files from folders by sending them
    with _listed(url):
        filesystem, path = filesystem_of(url)
        filesystem.invalidate_cache(path)
        if filesystem.isfile(path):
            return [url]
        found = filesystem.find(path)
    if not found:
        msg = f"nothing is there: {url!r}"
        raise FileNotFoundError(msg)
    return sorted(filesystem.unstrip_protocol(name) for name in found)


def urls_of_pattern(pattern: str) -> list[str]:
    """Return the URLs of the files and folders that a pattern finds; of the one that has this very name, if one has.

    Parameters
    ----------
    pattern : str
        URL with ``*`` in its path; ``**`` stands for any number of folders, brackets for themselves.

    Raises
    ------
    UnreadableFileError
        If what is there cannot be listed.
    ValueError
        If the URL has a password in it.
    """
    check_secrets(pattern)
    with _listed(pattern):
        filesystem, path = filesystem_of(pattern)
        filesystem.invalidate_cache(path.partition("*")[0].rpartition("/")[0])
        if filesystem.exists(path):
            return [pattern]
        return sorted(map(filesystem.unstrip_protocol, filesystem.glob(path.replace("[", "[[]"))))


@contextmanager
def _listed(url: str) -> Iterator[None]:
    """Raise what is no error of a file as one, and say what to do where a place cannot be listed."""
    with _named(url):
        try:
            yield
        except NotImplementedError as err:
            msg = f"what is at {url} cannot be listed; give a list of URLs"
            raise UnreadableFileError(msg) from err
        except ImportError as err:
            msg = f"fsspec needs another package for {url}: {err}"
            raise UnreadableFileError(msg) from err
