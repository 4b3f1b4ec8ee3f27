"""What a user names as a source: paths and URLs, with ``~`` for the home folder and ``*`` for many."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

from imagedata_xr.errors import NoDicomError
from imagedata_xr.remote import urls_of_pattern
from imagedata_xr.streams import is_archive, is_elsewhere

__all__ = ["Source", "paths_in"]

_WITHIN: Final = re.compile(r"(.*?\.(?:zip|tar|tar\.gz|tgz))/+([^/].*)", re.IGNORECASE)
"""A path that goes on within an archive, as if that were a folder."""

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def paths_in(source: Source) -> list[str | os.PathLike[str]]:
    """Return a source as a list of paths: ``~`` is the home folder, and a pattern the files and folders that it finds.

    Parameters
    ----------
    source : path or list of paths
        A path with ``*`` or ``?`` in it is a pattern, unless something of that very name is there. ``**`` stands for
        any number of folders; brackets stand for themselves. In a URL ``*`` alone makes a pattern: ``?`` begins what a
        server is asked.

    Raises
    ------
    FileNotFoundError
        If a pattern finds nothing, or a path is "".
    NoDicomError
        If a list is empty.
    TypeError
        If it is none.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("b.dcm", "a.dcm", "notes"):
    ...     (folder / name).touch()
    >>> [os.path.basename(path) for path in paths_in(folder / "*.dcm")]
    ['a.dcm', 'b.dcm']
    """
    items: list[object] = [source] if isinstance(source, str | bytes | os.PathLike) else []
    if not items:
        if not isinstance(source, Iterable):
            msg = f"the source is {source!r}: the path of a folder or file, or a list of paths, is wanted"
            raise TypeError(msg)
        items = list(source)
        if not items:
            raise NoDicomError("the list of sources is empty; a pattern that finds nothing gives such a list")
    found: list[str | os.PathLike[str]] = []
    for item in items:
        if not isinstance(item, str | os.PathLike):
            said = (
                repr(item) if isinstance(item, bytes | int | float | type(None)) else f"of type {type(item).__name__}"
            )
            msg = f"the source, or one in the list, is {said}: a path is text or a pathlib.Path"
            raise TypeError(msg)
        found.extend(_expanded(item))
    return found


def _expanded(item: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    given = os.fspath(item)
    path = os.path.expanduser(given)  # noqa: PTH111 - a Path each of thousands would cost as much as to read their heads
    if not path:
        # abspath would make the current folder of it, and a variable that is empty everything in there.
        msg = "the source is '', no path; '.' is the current folder"
        raise FileNotFoundError(msg)
    if (within := _WITHIN.match(path)) and os.path.isfile(within[1]):  # noqa: PTH113 - as above
        msg = f"{within[1]} is a file; what is in it is named '{within[1]}?{within[2]}'"
        raise FileNotFoundError(msg)
    if not ("*" in path or "?" in path) or is_archive(path.partition("?")[0]):
        return [item if path is given else path]
    if is_elsewhere(path):
        if "?" in path or "::" in path or path.startswith("dicom"):  # a PACS is queried, see `imagedata_xr.pacs.query`
            return [item]
        matches = urls_of_pattern(path)
    elif os.path.lexists(path):
        return [path]
    else:
        matches = sorted(glob.glob(path.replace("[", "[[]"), recursive=True))  # noqa: PTH207 - as above
    if not matches:
        msg = f"no file or folder is found by the pattern {given!r}"
        raise FileNotFoundError(msg)
    return list(matches)
