"""A zip archive as a folder: its members are unpacked once a process, and gone when it ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

from imagedata_xr.errors import UnreadableFileError

__all__ = ["is_archive", "unpacked"]


def is_archive(path: Path) -> bool:
    """Return whether a file is named and made like a zip archive."""
    return path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)


def unpacked(path: Path) -> Path:
    """Return a temporary folder with the files of an archive, under names of our own.

    A name in an archive is never used as a path. The folder is removed when the process ends: load what is to outlast
    it. The same archive is unpacked once, unless it changes.

    Parameters
    ----------
    path : Path
        A zip archive.

    Raises
    ------
    UnreadableFileError
        If the archive is damaged or encrypted, or would not fit on the disk.
    """
    status = path.stat()
    return _unpacked(str(path.resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _unpacked(path: str, size: int, mtime: int) -> Path:
    """Return the folder for one version of an archive."""
    folder = Path(tempfile.mkdtemp(prefix="imagedata_xr-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            wanted, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
            if wanted > free:
                msg = f"{path} says that it unpacks to {wanted} bytes; {free} are free at {folder.parent}"
                raise UnreadableFileError(msg)
            for number, member in enumerate(members):
                # zipfile reads no more of a member than it says it has, and checks its sum.
                with archive.open(member) as packed, (folder / f"{number:06d}").open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except UnreadableFileError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as err:
        shutil.rmtree(folder, ignore_errors=True)
        reason = err.strerror if isinstance(err, OSError) and err.errno else err
        msg = f"cannot unpack {os.fspath(path)}: {reason}"
        raise UnreadableFileError(msg) from err
    return folder
