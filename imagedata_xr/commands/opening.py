"""Opening images as the arguments of a command say."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imagedata_xr.api import open_series, open_study
from imagedata_xr.commands.report import UsageError
from imagedata_xr.dicom.scan import list_files, scan
from imagedata_xr.dicom.table import LEAVE_OUT
from imagedata_xr.errors import LeftOutWarning, MixedSeriesError, NoDicomError
from imagedata_xr.pacs.peer import is_pacs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    import xarray as xr

    from imagedata_xr.dicom.table import FrameTable

__all__ = [
    *("Heap", "at_hand", "check_no_network", "images_of", "noting_damaged", "open_one", "open_several", "options_of"),
    *("safe_name", "safe_names", "scan_all", "short_digest"),
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


@contextmanager
def noting_damaged() -> Iterator[list[tuple[str, str]]]:
    """Give a list that has, after the block, path and reason of each file that was left out within it as damaged."""
    damaged: list[tuple[str, str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield damaged
    for warning in caught:
        if isinstance(warning.message, LeftOutWarning):
            path, reason = warning.message.path, str(warning.message).removesuffix(f". {LEAVE_OUT}")
            told = path, reason.removeprefix("left out: ").removeprefix(f"{path} ")
            if told not in damaged:
                damaged.append(told)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def scan_all(sources: list[str]) -> Heap:
    """Return the frames of each series of some files, and which of the files are damaged.

    Raises
    ------
    FileNotFoundError
        If a source does not exist.
    """
    tables: dict[str, FrameTable] = {}
    nothing = ""
    with noting_damaged() as damaged:
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
        If an option has no value.
    """
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
    """Return the one image of a source."""
    sources = source if isinstance(source, list) else [source]
    sources = at_hand(sources)
    single = sources[0] if len(sources) == 1 else sources
    return open_series(single, arguments.order, **options_of(arguments), **_likes(arguments))


def _likes(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"template": arguments.template, "geometry": arguments.geometry, "extend": arguments.extend or None}
    return {name: value for name, value in given.items() if value is not None}


def open_several(
    arguments: argparse.Namespace, sources: list[str], failures: list[tuple[str, str]]
) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield name and image of each series of the sources; the name is "" where there is but one.

    Parameters
    ----------
    arguments : argparse.Namespace
        With the reading options.
    sources : list of str
        Folders, files, archives; read as one heap.
    failures : list
        Gets name and reason of each series that cannot be opened.
    """
    sources = at_hand(sources)
    try:
        image = open_one(arguments, sources)
    except MixedSeriesError:
        options = options_of(arguments)
        if any(name in options for name in ("series", "merge", "options")) or options["format"] not in (None, "dicom"):
            raise
    else:
        yield "", image
        return
    kept = {name: value for name, value in options.items() if name in ("where", "missing", "duplicates", "rescale")}
    likes = _likes(arguments)
    if likes:
        msg = "--template and --geometry are of one series, and several are there; choose one with --series"
        raise UsageError(msg)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = open_study(sources[0] if len(sources) == 1 else sources, arguments.order, errors="warn", **kept)
    for warning in caught:
        text = str(warning.message)
        if text.startswith("left out: "):
            name, _, reason = text.removeprefix("left out: ").partition(": ")
            failures.append((name, reason))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    shared = tree.attrs
    for node in tree.subtree:
        if "image" in node.data_vars:
            image = node.dataset["image"]
            yield str(node.path).lstrip("/"), image.assign_attrs({**shared, **image.attrs})


def safe_name(name: str) -> str:
    """Return the path of a series in a study as one of folders that every system allows."""
    parts = [
        "".join(c if c.isalnum() or c in "-_.+=@" else "_" for c in part).strip("._")[:80] or "unnamed"
        for part in name.split("/")
    ]
    reserved = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
    return os.fspath(Path(*(f"{p}_" if p.split(".")[0].lower() in reserved else p for p in parts)))


def short_digest(text: str) -> str:
    """Return what tells a text from others, for the end of a name of a folder."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def safe_names(names: Sequence[str]) -> list[str]:
    """Return the `safe_name` of each series, with a digest where that of two levels or series would be one.

    Examples
    --------
    >>> safe_names(["P1/1 T1", "P?/1 T1", "P*/1 T1"])
    ['P1/1_T1', 'P-7a400f49/1_T1', 'P-678c9c29/1_T1']
    """
    paths = [tuple(name.split("/")) for name in names]
    levels = {path[:count] for path in paths for count in range(1, len(path) + 1)}
    shown = {level: safe_name(level[-1]) for level in levels}
    siblings = Counter((level[:-1], name.casefold()) for level, name in shown.items())

    def folder(level: tuple[str, ...]) -> str:
        name = shown[level]
        if siblings[level[:-1], name.casefold()] == 1:
            return name
        return f"{name}-{short_digest('/'.join(level))}"

    return [os.fspath(Path(*(folder(path[:count]) for count in range(1, len(path) + 1)))) for path in paths]
