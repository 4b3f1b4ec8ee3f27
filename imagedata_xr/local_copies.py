"""Copies on this machine of files that are elsewhere, for libraries that need a path."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.files import removed_at_exit
from imagedata_xr.streams import is_elsewhere, is_member, open_binary, split_member

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["local_copy"]

_NOT_THERE: Final = (404, 410)
"""Answers of a web server that has no such file."""


def local_copy(paths: list[str], beside: Callable[[str], list[str]] | None = None) -> list[str]:
    """Return files of this machine with the content of others, and what lies beside these.

    Those that come from one folder lie in one folder, so that what belongs together is found. They are gone when the
    process ends.

    Parameters
    ----------
    paths : list of str
        Files of this machine, which are returned as they are, members of archives, and URLs.
    beside : callable, optional
        Function of the name of a file that returns the names of those that belong to it where they are there.

    Raises
    ------
    UnreadableFileError
        If a file cannot be read, or nobody can tell whether one that belongs to it is there.
    """
    if not any(map(is_elsewhere, paths)):
        return paths
    folders: dict[str, Path] = {}
    copies = []
    for path in paths:
        inner, archive = split_member(path) if is_member(path) else (path, "")
        parent, name = posixpath.split(inner)
        key = f"{parent}|{archive}"
        if key not in folders:
            folders[key] = Path(tempfile.mkdtemp(dir=_scratch()))
        target = _target(folders[key], name)
        _copy(path, target)
        copies.append(str(target))
        start = path[: path.index(inner) + len(inner) - len(name)]
        for other in beside(name) if beside else ():
            _copy_if_there(f"{start}{other}{path[len(start) + len(name) :]}", _target(folders[key], other))
    return copies


@lru_cache(maxsize=1)
def _scratch() -> Path:
    return removed_at_exit(tempfile.mkdtemp(prefix="imagedata_xr-"))


def _target(folder: Path, name: str) -> Path:
    """Return where a copy goes: the name is kept for its suffix; it has no separators, and the folder is ours."""
    return folder / (name.replace("\\", "_").replace("\0", "_") or "file")


def _copy(path: str, target: Path) -> None:
    with open_binary(path) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _copy_if_there(path: str, target: Path) -> None:
    """Copy a file, unless it is not there.

    Raises
    ------
    UnreadableFileError
        If that cannot be told: the image would come without what lies beside it.
    """
    try:
        _copy(path, target)
    except Exception as err:  # file systems raise what the libraries of their servers do
        if isinstance(err, FileNotFoundError) and _says_so(path, err):
            return
        msg = (
            f"{path} belongs to the image if it is there, and that cannot be told: {err.__cause__ or err}. Try again, "
            "or copy the image and what lies beside it to this machine"
        )
        raise UnreadableFileError(msg) from err


def _says_so(path: str, err: FileNotFoundError) -> bool:
    """Return whether a server has answered that there is no such file; fsspec says so of every failure of HTTP."""
    if "http://" not in path and "https://" not in path:
        return True
    return err.__cause__ is None or getattr(err.__cause__, "status", None) in _NOT_THERE
