"""``image_data receive DIR``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imagedata_xr.commands.opening import output_here
from imagedata_xr.commands.report import ALL_DONE, plain, print_json, tell
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
            print(plain(file), flush=True)

    with Receiver(
        output_here(arguments.folder),
        port=arguments.port,
        host=arguments.host,
        aet=arguments.aet,
        calling=arguments.calling,
        tls=server_context(arguments.cert, arguments.key, arguments.ca) if arguments.tls else None,
        associations=arguments.associations,
        largest_total=None if arguments.largest_total is None else arguments.largest_total * _MIB,
        timeout=arguments.timeout,
        arrived=arrived,
    ) as receiver:
        if not arguments.quiet:
            tell(f"image_data: {receiver.peer} receives into {arguments.folder}")
        try:
            receiver.wait(arguments.count or 1 << 62)
        finally:
            # Also where it is interrupted, which is the usual end.
            if arguments.json:
                print_json("receive", files=receiver.files, refused=receiver.refused)
                sys.stdout.flush()
    return ALL_DONE
