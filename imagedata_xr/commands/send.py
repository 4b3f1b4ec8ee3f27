"""``image_data send PACS IN...``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imagedata_xr.commands.network import peer_from
from imagedata_xr.commands.report import ALL_DONE, NETWORK, PARTLY, plain, print_json, tell
from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.send import send

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Send files as they are, and return the exit status."""
    from tqdm import tqdm

    peer = peer_from(arguments)
    hidden = True if arguments.quiet else None  # None: a bar on a terminal, nothing in a log
    status = ALL_DONE
    with tqdm(desc=str(peer), unit="instance", disable=hidden, file=sys.stderr) as bar:

        def progress(count: int, total: int) -> None:
            bar.total = total
            bar.update(count - bar.n)

        try:
            report = send(arguments.sources, peer, jobs=arguments.jobs, commit=arguments.commit, progress=progress)
        except NotStoredError as err:
            report = err.report
            status = PARTLY if len(report.failed) < len(report) else NETWORK
    if arguments.json:
        print_json("send", pacs=peer.url, instances=[instance._asdict() for instance in report])
    elif not arguments.quiet:
        print(plain(f"{peer.url}: {report.summary}"))
    for instance in report.failed:
        tell(f"image_data: not stored: {instance.path}: {instance.status}: {instance.reason}")
    return status
