"""One conversion at a time into a folder: a lock that the system releases when its process ends, however it ends.

Workers of a cluster do not end with it. So the file that is locked has the name of the run, by which they see whether
it still goes on.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["NAME", "goes_on", "locked", "no_file"]

NAME: Final = ".imagedata_xr.lock"
"""Name of the file in the folder; it stays there, since to remove it while another opens it would let two in."""
_LOCKED: Final = 1
"""Bytes that are locked; elsewhere than on POSIX nobody else can read them."""
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have none, as some of clusters are mounted."""

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, _LOCKED)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Keep other conversions out of a folder while the block runs, if this process may write there.

    Warns where the file system has no locks.

    Parameters
    ----------
    folder : Path
        Where outputs go; it has to be there.

    Yields
    ------
    str
        Name of this run, for `goes_on`; "" where none can be noted.

    Raises
    ------
    BatchError
        If another conversion is writing to the folder, or what has the name of the lock there is no file.
    """
    if not os.access(folder, os.W_OK):
        yield ""  # nothing can be written, but what is there may be all that is wanted
        return
    if os.path.lexists(folder / NAME) and not (folder / NAME).is_file():
        raise no_file(folder / NAME)  # before it is opened: a pipe would be waited for
    try:
        handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        try:
            handle = os.open(folder / NAME, os.O_RDONLY)  # of somebody else, who shares the folder
        except FileNotFoundError:
            yield ""  # as above, where rights are not what they seem, as on servers
            return
    try:
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError) as err:  # the second is what Windows says
            msg = f"another conversion is writing to {folder}: wait for it, or convert to another folder"
            raise BatchError(msg) from err
        except OSError as err:
            if err.errno not in _NO_LOCKS:
                raise
            msg = f"the file system of {folder} has no locks: see to it that no other conversion writes there"
            warnings.warn(msg, stacklevel=4)
        run = secrets.token_hex(6)
        try:
            _note(handle, run)
        except OSError:  # of somebody else, or the disk is full: all that is wanted may be there
            run = ""
        try:
            yield run
        finally:
            with suppress(OSError):
                _note(handle, "")
    finally:
        os.close(handle)


def no_file(path: Path) -> BatchError:
    """Return the error of what is no file and has the name of one that is kept beside the outputs.

    Parameters
    ----------
    path : Path
        Where it lies.
    """
    return BatchError(f"{path} is no file, and one of this name is kept there: move it, or convert to another folder")


def _note(handle: int, run: str) -> None:
    """Write the name of a run behind what is locked."""
    os.ftruncate(handle, 0)
    os.lseek(handle, _LOCKED, os.SEEK_SET)
    left = run.encode()
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)  # other machines are to see it


def goes_on(folder: Path, run: str) -> bool:
    """Return whether a run still goes on that writes to a folder; True where that is not known.

    Parameters
    ----------
    folder : Path
        Where its outputs go.
    run : str
        What `locked` has called it.
    """
    if not run:
        return True
    try:
        with open(folder / NAME, "rb") as file:
            file.seek(_LOCKED)
            return file.read() == run.encode()
    except OSError:
        return True
