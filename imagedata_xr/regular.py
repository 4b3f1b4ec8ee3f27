"""Regular files of this machine, opened without waiting for what is none: a pipe waits until somebody writes to it."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, BinaryIO, Final

__all__ = ["open_regular", "opened"]

_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)
"""Not every system has it, nor pipes that have a place among the files."""
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def opened(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """Return the handle of a file that is open for reading, and what the system tells of it.

    Parameters
    ----------
    path : path
        The file, or a link to it.

    Raises
    ------
    OSError
        If it cannot be opened, or is no regular file.
    """
    try:
        handle = os.open(path, _FLAGS | _AT_ONCE)
    except BlockingIOError:
        # Another program, such as a server of files, has to be asked to let it go, and that is to be waited for.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a Path a file costs as much as the rest
            raise
        handle = os.open(path, _FLAGS)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file, but a pipe or device", os.fspath(path))
        if _AT_ONCE:
            os.set_blocking(handle, True)  # of a file that is on tape a read is to wait, too, and not to fail
    except BaseException:
        os.close(handle)
        raise
    return handle, found


def open_regular(path: str | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """Return a regular file open for reading.

    Parameters
    ----------
    path : path
        The file, or a link to it.
    buffering : int
        As of `open`.

    Raises
    ------
    OSError
        As `opened`.

    Examples
    --------
    >>> open_regular("/dev/null")
    Traceback (most recent call last):
        ...
    OSError: [Errno 22] it is no file, but a pipe or device: '/dev/null'
    """
    handle, _ = opened(path)
    file = open(handle, "rb", buffering)  # noqa: SIM115 - for the caller to close
    raw: Any = getattr(file, "raw", file)
    raw.name = path  # which pydicom asks for
    return file
