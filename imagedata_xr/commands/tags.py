"""``image_data tags IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagedata_xr.commands.opening import check_no_network
from imagedata_xr.commands.report import ALL_DONE, UsageError, plain, print_json, print_table

if TYPE_CHECKING:
    import argparse

    from pydicom import Dataset

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Show elements, and return the exit status."""
    from imagedata_xr.dicom.scan import scan

    check_no_network(*arguments.sources)
    tables = scan(arguments.sources)
    if arguments.keys:
        return _columns(arguments, [path for table in tables.values() for path in dict.fromkeys(table.paths)])
    paths = [p for table in tables.values() for p in (dict.fromkeys(table.paths) if arguments.all else table.paths[:1])]
    if arguments.json:
        headers = [{"file": path, "elements": _header(path).to_json_dict(suppress_invalid_tags=True)} for path in paths]
        print_json("tags", files=headers)
        return ALL_DONE
    for path in paths:
        print(f"# {plain(path)}")
        for line in str(_header(path)).splitlines():
            print(plain(line))
    return ALL_DONE


def _header(path: str) -> Dataset:
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def _columns(arguments: argparse.Namespace, paths: list[str]) -> int:
    """Show some elements of every file."""
    from imagedata_xr.elements import keyword, tag

    try:
        numbers = [tag(name.strip()) for name in arguments.keys.split(",")]
    except ValueError as err:
        msg = f"-k {arguments.keys}: {err}"
        raise UsageError(msg) from err
    names = [keyword(number) or f"{number:08x}" for number in numbers]
    rows: list[list[Any]] = []
    for path in paths:
        header = _header(path)
        rows.append([path, *(str(header[number].value) if number in header else "" for number in numbers)])
    if arguments.json:
        print_json("tags", files=[dict(zip(["file", *names], row, strict=True)) for row in rows])
    else:
        print_table(["file", *names], rows)
    return ALL_DONE
