"""Opening images as the arguments of a command say."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imagedata_xr.api import open_series, open_study
from imagedata_xr.backend import images_in
from imagedata_xr.commands.report import UsageError
from imagedata_xr.dicom.doubt import in_doubt, noting_left_out
from imagedata_xr.dicom.scan import Files, list_files, scan
from imagedata_xr.dicom.select import chosen
from imagedata_xr.dicom.tags import parse_order
from imagedata_xr.errors import MixedSeriesError, NoDicomError, UnreadableFileError
from imagedata_xr.files import place_here
from imagedata_xr.formats.registry import format_names, is_name_of_file
from imagedata_xr.pacs.peer import is_pacs
from imagedata_xr.plan import allowed_name
from imagedata_xr.streams import is_archive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    import xarray as xr

    from imagedata_xr.dicom.table import FrameTable

__all__ = [
    *("Heap", "Opened", "at_hand", "check_no_network", "folder_here", "images_of", "open_one", "open_several"),
    *("options_of", "output_here", "safe_name", "safe_names", "scan_all", "short_digest"),
]

_OF_DICOM = ("missing", "duplicates", "rescale")


class Heap(NamedTuple):
    """What lies in some files."""

    files: list[str]
    tables: dict[str, FrameTable]
    """The frames of each series."""
    damaged: list[tuple[str, str]]
    """Path and reason of each file, or folder, that cannot be read."""
    nothing: str
    """What is to be said where there are no images."""


class Opened(NamedTuple):
    """What was opened of some files, and what was not."""

    images: list[tuple[str, xr.DataArray]]
    """Name and image of each series; the name is "" where there is but one."""
    failures: list[tuple[str, str]]
    """Name and reason of each series that cannot be opened, or may lack frames."""
    damaged: list[tuple[str, str]]
    """Path and reason of each file, or folder, that cannot be read."""
    first: Exception | None = None
    """What was wrong with the first of the failures."""


def scan_all(sources: list[str]) -> Heap:
    """Return the frames of each series of some files, and which of the files are damaged.

    Raises
    ------
    FileNotFoundError
        If a source does not exist.
    """
    tables: dict[str, FrameTable] = {}
    nothing = ""
    with noting_left_out() as damaged:
        files = list_files(sources, "warn")
        try:
            tables = scan(files, errors="warn")
        except NoDicomError as err:
            nothing = str(err)
    return Heap(files, tables, damaged, nothing)


def images_of(sources: list[str]) -> tuple[dict[str, FrameTable], list[tuple[str, str]]]:
    """Return the frames of each series of some files, and path and reason of each file that is damaged.

    Raises
    ------
    FileNotFoundError
        If a source does not exist.
    NoDicomError
        If there is neither.
    """
    heap = scan_all(sources)
    if heap.nothing and not heap.damaged:
        raise NoDicomError(heap.nothing)
    return heap.tables, heap.damaged


def check_no_network(*places: str) -> None:
    """Raise UsageError for a place that is a PACS, where a command looks at files."""
    for place in places:
        if is_pacs(place):
            msg = f"{place}: this command looks at files; fetch them first, image_data dicomDir {place}"
            raise UsageError(msg)


def output_here(text: str) -> Path:
    """Return where a command writes that writes to this machine only.

    Raises
    ------
    UsageError
        If it is a URL.
    """
    try:
        return place_here(text)
    except ValueError as err:
        raise UsageError(str(err)) from err


def folder_here(text: str) -> Path:
    """Return the folder to which a command writes files that it adds to others.

    Raises
    ------
    UsageError
        If it is a URL.
    FileExistsError
        If something else is there.
    """
    folder = output_here(text)
    if folder.exists() and not folder.is_dir():
        msg = f"{text} is there, and is no folder: say which folder files go to"
        raise FileExistsError(msg)
    return folder


def at_hand(sources: list[Any]) -> list[Any]:
    """Return sources, with folders in place of what a PACS has."""
    from imagedata_xr.pacs.retrieve import fetched

    return [fetched(source) if is_pacs(source) else source for source in sources]


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        msg = f"{text!r} is neither true nor false"
        raise UsageError(msg)
    return text.lower() in ("true", "yes", "1")


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `open_series` that the reading options tell.

    Raises
    ------
    UsageError
        If an option has no value, or there is no such format.
    """
    if arguments.input_format not in (None, "dicom", *format_names()):
        msg = f"--input-format {arguments.input_format!r}: there are dicom, {', '.join(format_names())}"
        raise UsageError(msg)
    found: dict[str, Any] = {"format": arguments.input_format}
    others: dict[str, Any] = {}
    for text in arguments.input_options:
        name, is_there, value = text.partition("=")
        if not is_there:
            msg = f"--input_options {text!r}: NAME=VALUE is wanted, such as missing=fill"
            raise UsageError(msg)
        if name in _OF_DICOM:
            found[name] = _truth(value) if name == "rescale" else value
        else:
            others[name] = value
    if others:
        found["options"] = others
    if arguments.series is not None:
        found["series"] = int(arguments.series) if arguments.series.isdigit() else arguments.series
    if arguments.merge:
        found["merge"] = True
    wanted = {"AcquisitionNumber": arguments.input_acquisition, "EchoNumbers": arguments.input_echo}
    if any(value is not None for value in wanted.values()):
        found["where"] = _having({name: str(value) for name, value in wanted.items() if value is not None})
    return found


def _having(wanted: dict[str, str]) -> Callable[[Any], bool]:
    """Return a function that tells whether a header has these values."""
    return lambda dataset: all(str(dataset.get(name, "")) == value for name, value in wanted.items())


def open_one(arguments: argparse.Namespace, source: Any) -> xr.DataArray:
    """Return the one image of a source.

    Raises
    ------
    UsageError
        If the format of the source has no such option.
    """
    sources = source if isinstance(source, list) else [source]
    sources = at_hand(sources)
    single = sources[0] if len(sources) == 1 else sources
    options = options_of(arguments)
    try:
        return open_series(single, arguments.order, **options, **_likes(arguments))
    except TypeError as err:
        if "options" not in options:
            raise
        msg = f"--input_options {', '.join(options['options'])}: {err}; of DICOM there are {', '.join(_OF_DICOM)}"
        raise UsageError(msg) from err


def _likes(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"template": arguments.template, "geometry": arguments.geometry, "extend": arguments.extend or None}
    return {name: value for name, value in given.items() if value is not None}


def open_several(arguments: argparse.Namespace, sources: list[str]) -> Opened:
    """Return the image of each series of the sources, and what was not opened.

    A series of which a file is damaged, or may be, is not opened: it would come as if it were whole. Nor is it merged.

    Parameters
    ----------
    arguments : argparse.Namespace
        With the reading options.
    sources : list of str
        Folders, files, archives; read as one heap.

    Raises
    ------
    UnreadableFileError
        If files are damaged, and no series is left that is surely whole.
    MixedSeriesError
        If several series are there, and the options are of one.
    """
    sources = at_hand(sources)
    options = options_of(arguments)
    is_of_dicom = options["format"] in (None, "dicom") and "options" not in options
    try:
        return Opened([("", open_one(arguments, sources))], [], [])
    except MixedSeriesError:
        if not is_of_dicom or "series" in options or "merge" in options:
            raise
        images, failures, first = _open_all(arguments, sources)
        return Opened(images, failures, [], first)
    except UnreadableFileError as err:
        if not is_of_dicom or "merge" in options:
            raise
        heap = scan_all(sources)
        whole, failures = _whole(heap, options.get("series"))
        # Where no file is damaged, it was a value in the header of a series, or the template.
        if not whole or (not heap.damaged and (len(whole) == 1 or _likes(arguments))):
            for name, reason in (*heap.damaged, *failures):
                err.add_note(f"not read: {name}: {reason}")
            raise
    files = Files(dict.fromkeys(path for table in whole.values() for path in table.paths), sources)
    if "series" in options:
        image = open_series(files, arguments.order, **{**options, "format": "dicom"}, **_likes(arguments))
        return Opened([("", image)], [], heap.damaged)
    images, others, first = _open_all(arguments, files)
    return Opened(images, failures + others, heap.damaged, UnreadableFileError() if failures else first)


def _whole(heap: Heap, series: str | int | None) -> tuple[dict[str, FrameTable], list[tuple[str, str]]]:
    """Return the series that surely are whole, of those that are asked for, and name and reason of the others."""
    tables = heap.tables
    if series is not None:
        table = chosen(tables, series)
        tables = {uid: one for uid, one in tables.items() if one is table}
    reasons = in_doubt(heap.tables, [path for path, _ in heap.damaged])
    failures = [(_name_of(uid, tables[uid]), reason) for uid, reason in reasons.items() if uid in tables]
    return {uid: table for uid, table in tables.items() if uid not in reasons}, failures


def _name_of(uid: str, table: FrameTable) -> str:
    """Return number and description of a series, or its UID."""
    try:
        told = [table.first(name) for name in ("SeriesNumber", "SeriesDescription")]
    except OSError:  # one of them is damaged
        told = []
    label = " ".join(str(value) for value in told if value != "") or uid
    return f"series {label!r}"


def _open_all(
    arguments: argparse.Namespace, sources: list[str]
) -> tuple[list[tuple[str, xr.DataArray]], list[tuple[str, str]], Exception | None]:
    """Return name and image of each series, name and reason of those that cannot be opened, and the first error."""
    if _likes(arguments):
        msg = "--template and --geometry are of one series, and several are there; choose one with --series"
        raise UsageError(msg)
    kept = {n: v for n, v in options_of(arguments).items() if n in ("where", *_OF_DICOM)}
    parse_order(arguments.order)  # which would fail each series
    errors: list[Exception] = []
    with noting_left_out(errors) as failures:
        tree = open_study(sources, arguments.order, errors="warn", **kept)
    return [(path.lstrip("/"), image) for path, image in images_in(tree)], failures, next(iter(errors), None)


def safe_name(name: str) -> str:
    """Return the path of a series in a study as one of folders that every system allows."""
    return os.fspath(Path(*(allowed_name(part, "unnamed") for part in name.split("/"))))


def short_digest(text: str) -> str:
    """Return what tells a text from others, for the end of a name of a folder."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _of_folder(name: str) -> str:
    """Return a name that is not taken for that of a file, whatever a series is called."""
    return name.replace(".", "_") if is_archive(name) or is_name_of_file(name) else name


def safe_names(names: Sequence[str]) -> list[str]:
    """Return the folder of each series: its `safe_name`, with a digest where that of two levels or series would be one.

    Examples
    --------
    >>> safe_names(["P1/1 T1", "P?/1 T1", "P*/1 T1"])
    ['P1/1_T1', 'P-7a400f49/1_T1', 'P-678c9c29/1_T1']
    """
    paths = [tuple(name.split("/")) for name in names]
    levels = {path[:count] for path in paths for count in range(1, len(path) + 1)}
    shown = {level: _of_folder(safe_name(level[-1])) for level in levels}
    siblings = Counter((level[:-1], name.casefold()) for level, name in shown.items())

    def folder(level: tuple[str, ...]) -> str:
        name = shown[level]
        if siblings[level[:-1], name.casefold()] == 1:
            return name
        return f"{name}-{short_digest('/'.join(level))}"

    return [os.fspath(Path(*(folder(path[:count]) for count in range(1, len(path) + 1)))) for path in paths]
