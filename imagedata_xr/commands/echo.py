"""``image_data echo PACS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagedata_xr.commands.network import peer_from
from imagedata_xr.commands.report import ALL_DONE, UsageError, print_json, say
from imagedata_xr.pacs.echo import echo
from imagedata_xr.pacs.web import is_web

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Tell whether a PACS answers, and return the exit status."""
    if is_web(arguments.pacs):
        msg = (
            f"{arguments.pacs} is DICOMweb, which has no echo: dicom://host:port/AETITLE is wanted; "
            f"image_data query {arguments.pacs} tells whether the service answers"
        )
        raise UsageError(msg)
    peer = peer_from(arguments)
    seconds = echo(peer)
    if arguments.json:
        print_json("echo", pacs=peer.url, seconds=round(seconds, 6))
    elif not arguments.quiet:
        say(f"{peer.url}: answered in {seconds * 1000:.1f} ms")
    return ALL_DONE
