"""The files of a source, each listed once."""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal

from imagedata_xr.errors import LeftOutWarning, UnreadableFileError
from imagedata_xr.sources import paths_in
from imagedata_xr.streams import is_elsewhere, list_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imagedata_xr.sources import Source

__all__ = ["Files", "list_files"]

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_UNFINISHED = re.compile(r"\.(.+\.)?[0-9a-f]{12}\.part")
"""Names that our own output has until it is whole, and where it was killed for ever."""


class Files(list[str]):
    """The paths of all files of a source, listed once."""

    def __init__(self, paths: Iterable[str], source: Source) -> None:
        super().__init__(paths)
        self.source = source


def list_files(source: Source, errors: Literal["raise", "warn"] = "raise") -> Files:
    """Return the paths of all files of a source, sorted: of a folder with all below it, a zip, a file, or a list.

    See `imagedata_xr.sources.paths_in` for what a path may be.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.
    UnreadableFileError
        If a folder cannot be listed; with ``errors="warn"`` one within the source is left out with a warning.
    TypeError
        If the source is no path and no list of paths.
    OSError
        If the system does not say whether something is there.
    """
    if isinstance(source, Files):
        return source
    found: dict[str, None] = {}
    led: dict[str, str] = {}
    real = cache(os.path.realpath)
    for item in paths_in(source):
        elsewhere = list_source(os.fspath(item))
        if elsewhere is not None:
            found.update(dict.fromkeys(p if is_elsewhere(p) else os.path.abspath(p) for p in elsewhere))  # noqa: PTH100 - as below
            continue
        path = os.fspath(item)
        # Of thousands of files in a list, a Path each would cost as much as to read their heads.
        # Links stay links, but what is above one is above what it leads to.
        path = os.path.realpath(path) if os.pardir in path.split(os.sep) else os.path.abspath(path)  # noqa: PTH100, PTH206 - as above
        try:
            mode = os.lstat(path).st_mode
            if is_link := stat.S_ISLNK(mode):
                mode = os.stat(path).st_mode  # noqa: PTH116 - as above
        except (OSError, ValueError) as err:  # a name with a null is a ValueError
            if isinstance(err, OSError) and err.errno not in _NOT_THERE:
                raise
            msg = f"no such file or folder: {str(item)!r}"
            raise FileNotFoundError(msg) from err
        if not stat.S_ISDIR(mode):
            found[path] = None
            folder, name = os.path.split(path)
            leads_to = os.path.realpath(path) if is_link else os.path.join(real(folder), name)  # noqa: PTH118 - as above
            if leads_to != path:
                led[path] = leads_to
            continue
        within: dict[str, None] = {}
        _list_folder(path, within, led, errors)
        if (leads_to := real(path)) != path:
            led.update((file, leads_to + file[len(path) :]) for file in within if file not in led)
        found.update(within)
    return Files(_each_once(found, led), source)


def _each_once(found: dict[str, None], led: Mapping[str, str]) -> Iterable[str]:
    """Return files but for links to others of them: a frame that is read twice would pass for two."""
    if not led:
        return found
    seen = {path for path in found if path not in led}
    kept = []
    for path in found:
        leads_to = led.get(path)
        if leads_to is None or leads_to not in seen:
            kept.append(path)
            seen.add(leads_to or path)
    return kept


def _list_folder(folder: str, found: dict[str, None], led: dict[str, str], errors: Literal["raise", "warn"]) -> None:
    """Add the files of a folder, then those of the folders in it; links to folders are not followed.

    Of links to files `led` gets where they lead.

    Our own output that is not finished yet, or never was, is not listed: half of a series would pass for one.

    Raises
    ------
    UnreadableFileError
        If a folder cannot be listed: half of a series may be in it.
    """
    try:
        with os.scandir(folder) as entries:
            there = [e for e in entries if not (e.name.endswith(".part") and _UNFINISHED.fullmatch(e.name))]
    except OSError as err:
        msg = f"cannot read {err.filename}: {err.strerror}"
        raise UnreadableFileError(msg) from err
    files = [entry.path for entry in there if entry.is_file(follow_symlinks=False)]
    folders = []
    for entry in there if len(files) < len(there) else ():
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif not entry.is_file(follow_symlinks=False) and not os.path.isdir(entry.path):  # noqa: PTH112 - no error for loops
            files.append(entry.path)
            if entry.is_symlink():
                led[entry.path] = os.path.realpath(entry.path)
    found.update(dict.fromkeys(sorted(files)))
    for inner in sorted(folders):
        try:
            _list_folder(inner, found, led, errors)
        except UnreadableFileError as err:
            if errors == "raise":
                raise
            warnings.warn(LeftOutWarning(f"left out: {err}", inner), stacklevel=4)
