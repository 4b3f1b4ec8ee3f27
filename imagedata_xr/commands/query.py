"""``image_data query PACS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagedata_xr.commands.network import as_usage, place_from
from imagedata_xr.commands.report import ALL_DONE, NOTHING_FOUND, UsageError, print_json, print_table
from imagedata_xr.pacs.query import query

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Tell what a PACS has, and return the exit status."""
    keys: dict[str, str] = {}
    for text in arguments.keys:
        name, is_there, value = text.partition("=")
        if not is_there or not name:
            msg = f"-k {text!r}: KEYWORD=VALUE is wanted, such as PatientID=P1 or StudyDate=20260101-20260131"
            raise UsageError(msg)
        keys[name] = value
    place = place_from(arguments)
    with as_usage():
        table = query(place, arguments.level, keys)
    if arguments.json:
        print_json("query", level=arguments.level, found=table.to_dict("records"))
    else:
        names = [str(name) for name in table.columns]
        print_table(names, [["/".join(c) if isinstance(c, list) else c for c in row] for row in table.values.tolist()])
    return ALL_DONE if len(table) else NOTHING_FOUND
