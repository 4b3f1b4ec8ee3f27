"""``image_data tags IN...``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from pydicom.errors import BytesLengthException

from imagedata_xr.commands.opening import check_no_network, scan_all
from imagedata_xr.commands.report import (
    UsageError,
    plain,
    print_csv,
    print_json,
    print_table,
    tell_damaged,
    told_damaged,
    while_read,
)
from imagedata_xr.dicom.scan import SERIES, read_head
from imagedata_xr.dicom.walk import uid_in
from imagedata_xr.elements import keyword, tag, vr_of
from imagedata_xr.errors import NoDicomError, UnreadableFileError
from imagedata_xr.keywords import keyword_meant
from imagedata_xr.streams import dcmread
from imagedata_xr.verbatim import keep_private, make_readable, turn_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from pydicom import Dataset

__all__ = ["run"]

_FAILURES: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, OSError, struct.error),
    BytesLengthException,
)
"""What pydicom raises for values that are not of their kind."""


def run(arguments: argparse.Namespace) -> int:
    """Show elements, and return the exit status."""
    check_no_network(*arguments.sources)
    if arguments.keys == "":
        msg = "-k is '': name elements, such as EchoTime,SeriesNumber, or leave it out"
        raise UsageError(msg)
    if arguments.csv and (arguments.json or not arguments.keys):
        msg = "--csv is a table of elements: name them with -k, and leave --json out"
        raise UsageError(msg)
    series, damaged = _series_of(arguments.sources)
    if arguments.keys:
        return _columns(arguments, [path for files in series for path in files], damaged)
    paths = [path for files in series for path in (files if arguments.all else files[:1])]
    if arguments.json:
        headers = [{"file": path, "elements": found} for path, found in _each(_elements, paths, damaged)]
        print_json("tags", files=headers, damaged=told_damaged(damaged))
    else:
        with while_read():
            for path, text in _each(str, paths, damaged):
                print(f"# {plain(path)}")
                for line in text.splitlines():
                    print(plain(line))
    return tell_damaged(damaged, others=bool({*paths} - {path for path, _ in damaged}))


def _series_of(sources: list[str]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Return the files of each series, those of images first, and path and reason of each file that is damaged.

    Raises
    ------
    NoDicomError
        If no DICOM file is there.
    """
    heap = scan_all(sources)
    damaged = list(heap.damaged)
    images = [list(dict.fromkeys(table.paths)) for table in heap.tables.values()]
    done = {path for files in images for path in files} | {path for path, _ in damaged}
    others: dict[str, list[str]] = {}
    for path in heap.files:
        if path in done:
            continue
        try:
            found = read_head(path)
        except UnreadableFileError as err:
            damaged.append((path, str(err)))
            continue
        if found is not None:
            told = found[0].elements.get(SERIES)
            # A file that tells no series, such as a DICOMDIR, is shown by itself.
            uid = "" if told is None else uid_in(told.value)
            others.setdefault(uid or path, []).append(path)
    if not images and not others and not damaged:
        raise NoDicomError(heap.nothing)
    return [*images, *others.values()], damaged


def _each(
    shown: Callable[[Dataset], Any], paths: list[str], damaged: list[tuple[str, str]]
) -> Iterator[tuple[str, Any]]:
    """Give each file and what is shown of its header; of those that cannot be read, `damaged` gets path and reason."""
    for path in paths:
        try:
            header = dcmread(path, stop_before_pixels=True, force=True)
            make_readable(header)
            keep_private(header)
            turn_words(header)
            found = shown(header)
        except _FAILURES as err:
            damaged.append((path, str(err)))
            continue
        yield path, found


def _elements(header: Dataset) -> dict[str, Any]:
    """Return the elements as in DICOM JSON (PS3.18 F.2); those that it cannot have, as the text that lies there."""
    found: dict[str, Any] = {}
    for number in header.keys():  # noqa: SIM118 - items() converts
        raw = header.get_item(number)
        try:
            element = header[number]
            if element.VR == "SQ":
                told: dict[str, Any] = {"vr": "SQ", "Value": [_elements(item) for item in element.value]}
            else:
                told = element.to_json_dict(None, 0)
        except _FAILURES:
            value = getattr(raw, "value", None)
            text = value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value)
            told = {"vr": str(getattr(raw, "VR", None) or vr_of(int(number))), "Value": text.split("\\")}
        found[f"{number:08X}"] = told
    return found


def _columns(arguments: argparse.Namespace, paths: list[str], damaged: list[tuple[str, str]]) -> int:
    """Show some elements of every file."""
    try:
        numbers = [tag(name.strip()) for name in arguments.keys.split(",")]
    except ValueError as err:
        meant = next(filter(None, (keyword_meant(name.strip()) for name in arguments.keys.split(","))), "")
        msg = f"-k {arguments.keys}: {err}" + (f"; {meant!r} may be meant" if meant else "")
        raise UsageError(msg) from err
    names = [keyword(number) or f"{number:08x}" for number in numbers]

    def values(header: Dataset) -> list[str]:
        return [str(header[number].value) if number in header else "" for number in numbers]

    rows = [[path, *found] for path, found in _each(values, paths, damaged)]
    if arguments.json:
        files = [dict(zip(["file", *names], row, strict=True)) for row in rows]
        print_json("tags", files=files, damaged=told_damaged(damaged))
    elif arguments.csv:
        print_csv(["file", *names], rows)
    else:
        print_table(["file", *names], rows)
    return tell_damaged(damaged, others=bool(rows))
