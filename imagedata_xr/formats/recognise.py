"""Which format a source has."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagedata_xr.errors import MixedSeriesError, NoDicomError, UnreadableFileError
from imagedata_xr.formats.registry import format_of, formats_of, get_format
from imagedata_xr.streams import is_elsewhere, is_member, split_member

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagedata_xr.sources import Source

__all__ = ["is_zarr_store", "recognised"]

_HEADS = ("zarr.json", ".zgroup")
"""Files of which one is in every Zarr store, by its version."""


def is_zarr_store(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder is a Zarr store, or a group in one."""
    return any(Path(path, head).is_file() for head in _HEADS)


def recognised(source: Source, format: str | None, errors: Literal["raise", "warn"] = "raise") -> tuple[str, list[str]]:
    """Return the format of a source, and its files of that format; of DICOM all files, as far as they were listed.

    Raises
    ------
    FileNotFoundError
        If nothing is there that can be read.
    NoDicomError
        If it is a virtual store or a sidecar.
    MixedSeriesError
        If files of several formats are there, and none is DICOM.
    UnreadableFileError
        If one of them is a pipe or a device.
    """
    from imagedata_xr.dicom.scan import has_dicom, list_files
    from imagedata_xr.sources import paths_in

    if format == "dicom":
        return "dicom", []
    items = paths_in(source)
    if format is None and len(items) == 1 and os.fspath(items[0]).lower().endswith(".json"):
        msg = f"{items[0]} is no image: open_virtual opens a virtual store, and a sidecar is read with its image"
        raise NoDicomError(msg)
    # The groups of a tree are stores that need not be named so.
    guesses = [(item, "zarr" if format == "zarr" and is_zarr_store(item) else format_of(item)) for item in items]
    # A store is a folder, but one image.
    named = [name if name == "zarr" or (name and Path(item).is_file()) else None for item, name in guesses]
    files: list[str]
    if items and all(named):
        files = [os.fspath(item) for item in items]
    else:
        files = list_files(source, errors)
        # Those of ._ are what macOS keeps beside a file in archives and on other disks, under its suffix.
        named = [
            None if name and Path(split_member(file)[0] if is_member(file) else file).name.startswith("._") else name
            for file, name in zip(files, formats_of(files), strict=True)
        ]
        if format is None and (not any(named) or has_dicom(files)):
            _tell_passed_over([(item, name) for item, name in guesses if name and len(items) > 1])
            return "dicom", files
    by_format: dict[str, list[str]] = {}
    for file, name in zip(files, named, strict=True):
        if name is not None:
            by_format.setdefault(name, []).append(file)
    if format is not None:
        get_format(format)
        # A name without a suffix may be that of any format.
        wanted = by_format.get(format) or (_none_of(format, items) if any(named) or has_dicom(files) else files)
        _refuse_pipes(wanted)
        return format, wanted
    if len(by_format) > 1:
        found = ", ".join(f"{name} ({len(paths)})" for name, paths in sorted(by_format.items()))
        msg = f"files of several formats are there, {found}; say which with format="
        raise MixedSeriesError(msg)
    ((name, paths),) = by_format.items()
    if has_dicom(paths):
        return "dicom", []
    _refuse_pipes(paths)
    return name, paths


def _tell_passed_over(given: Sequence[tuple[object, str]]) -> None:
    """Warn of sources of other formats that were given beside DICOM: whoever names one wants it to be read."""
    from imagedata_xr.dicom.scan import has_dicom

    others = [(item, name) for item, name in given if name == "zarr" or Path(str(item)).is_file()]
    others = [(item, name) for item, name in others if name == "zarr" or not has_dicom([str(item)])]
    if others:
        item, name = others[0]
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        msg = f"{item}{more} is {name}, and passed over, since there is DICOM: open it by itself"
        warnings.warn(msg, stacklevel=4)


def _refuse_pipes(paths: Sequence[str]) -> None:
    """Raise UnreadableFileError for pipes and devices: libraries of other formats would wait for one to be written."""
    for path in paths:
        try:
            mode = 0 if is_elsewhere(path) else os.stat(path).st_mode  # noqa: PTH116 - there may be thousands
        except OSError:
            continue  # the reader will say so
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            msg = f"{path} is no file, but a pipe or device: write what comes from it to a file, and open that"
            raise UnreadableFileError(msg)


def _none_of(format: str, items: Sequence[object]) -> list[str]:
    msg = f"no {format} file at {', '.join(map(str, items))}"
    raise FileNotFoundError(msg)
