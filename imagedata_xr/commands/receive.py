"""``image_data receive DIR``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagedata_xr.commands.network import as_usage, seconds_of
from imagedata_xr.commands.opening import folder_here
from imagedata_xr.commands.report import ALL_DONE, flush, print_json, say, tell
from imagedata_xr.pacs.receive import Receiver
from imagedata_xr.pacs.tls import server_context

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

__all__ = ["run"]

_MIB = 1 << 20


def run(arguments: argparse.Namespace) -> int:
    """Receive until an interrupt, or until there are as many as wanted, and return the exit status."""

    def arrived(file: Path) -> None:
        if not arguments.json and not arguments.quiet:
            say(str(file))
            flush()

    def turned_away(uid: str, why: str) -> None:
        tell(f"image_data: not taken: {uid}: {why}")

    with as_usage(OSError):
        tls = server_context(arguments.cert, arguments.key, arguments.ca) if arguments.tls else None
    with as_usage():
        receiver = Receiver(
            folder_here(arguments.folder),
            port=arguments.port,
            host=arguments.host,
            aet=arguments.aet,
            calling=arguments.calling,
            tls=tls,
            associations=arguments.associations,
            largest_total=None if arguments.largest_total is None else arguments.largest_total * _MIB,
            timeout=seconds_of(arguments),
            arrived=arrived,
            turned_away=turned_away,
        )
    try:
        with receiver:
            if not arguments.quiet:
                tell(f"image_data: {receiver.peer} receives into {arguments.folder}")
            receiver.wait(arguments.count or 1 << 62)
    finally:
        # Also where it is interrupted, which is the usual end; and when nothing more can come.
        if arguments.json:
            print_json("receive", files=receiver.files, refused=receiver.refused)
            flush()
    return ALL_DONE
