"""What was left out of what was read, and which series may lack frames since."""

from __future__ import annotations

import os
import struct
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagedata_xr.dicom.scan import SERIES
from imagedata_xr.dicom.table import LEAVE_OUT
from imagedata_xr.errors import LeftOutWarning
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.streams import open_binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["in_doubt", "noting_left_out"]


@contextmanager
def noting_left_out(errors: list[Exception] | None = None) -> Iterator[list[tuple[str, str]]]:
    """Give a list that has, after the block, name and reason of all that was left out within it: files and series.

    Parameters
    ----------
    errors : list, optional
        Gets the error of each series.
    """
    left_out: list[tuple[str, str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield left_out
    for warning in caught:
        if isinstance(warning.message, LeftOutWarning):
            path, reason = warning.message.path, str(warning.message).removesuffix(f". {LEAVE_OUT}")
            reason = reason.removeprefix("left out: ").removeprefix(f"cannot read {path}: ")
            told = path, reason.removeprefix(path).lstrip(": ")
            if told not in left_out:
                left_out.append(told)
            if errors is not None and isinstance(warning.message.__cause__, Exception):
                errors.append(warning.message.__cause__)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def in_doubt(tables: Mapping[str, FrameTable], unreadable: Iterable[str]) -> dict[str, str]:
    """Return the series that may lack frames, and why.

    A file that was cut short still tells its series, unless that is cut off, too. Of which series others are, and what
    is in folders that cannot be listed, nobody knows: it may be any that has files in the nearest folder around. A
    slice that lacks at the end of a stack shows nowhere else.

    Parameters
    ----------
    tables : mapping of str to FrameTable
        SeriesInstanceUID to the frames that were read.
    unreadable : iterable of str
        Files, and folders, that were left out.

    Returns
    -------
    dict of str to str
        SeriesInstanceUID to the reason.
    """
    found: dict[str, str] = {}
    around: dict[str, set[str]] | None = None
    for path in unreadable:
        uid = _series_told(path)
        if uid is not None:
            if uid in tables:
                found.setdefault(uid, f"{path}, which is of this series, cannot be read")
            continue
        if around is None:
            around = _series_around(tables)
        folder = next(folder for folder in _folders_around(path) if folder in around)
        for near in around[folder]:
            found.setdefault(near, f"{path} cannot be read and may be of this series: it does not tell of which it is")
    return found


def _series_told(path: str) -> str | None:
    """Return the SeriesInstanceUID of a damaged file; None if it does not tell."""
    import pydicom

    is_beyond = False

    def beyond(number: int, _vr: str | None, _length: int) -> bool:
        nonlocal is_beyond
        is_beyond = is_beyond or number > SERIES
        return is_beyond

    try:
        with filtered_warnings(), open_binary(path) as file:
            dataset = pydicom.filereader.read_partial(file, stop_when=beyond, force=True)
            # An element that follows it is proof that the UID itself is not cut short.
            return str(dataset.get("SeriesInstanceUID", "")) if is_beyond else None
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, RecursionError),
        *(OverflowError, MemoryError, struct.error, pydicom.errors.InvalidDicomError),
        pydicom.errors.BytesLengthException,
    ):
        return None


def _folders_around(path: str) -> Iterator[str]:
    """Give the folder of a file, the one around that, and so on; the last is "", which is around all."""
    folder = path.replace(os.sep, "/")
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _series_around(tables: Mapping[str, FrameTable]) -> dict[str, set[str]]:
    """Return the series that have files in, or below, each folder."""
    found: dict[str, set[str]] = {}
    for uid, table in tables.items():
        for folder in {next(_folders_around(path)) for path in set(table.paths)}:
            found.setdefault(folder, set()).add(uid)
            for outer in _folders_around(folder):
                found.setdefault(outer, set()).add(uid)
    return found
