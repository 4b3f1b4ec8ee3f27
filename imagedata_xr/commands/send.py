"""``image_data send PACS IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagedata_xr.commands.network import place_from
from imagedata_xr.commands.report import (
    ALL_DONE,
    NETWORK,
    PARTLY,
    UsageError,
    flush,
    print_json,
    progress_bar,
    say,
    tell,
)
from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.report import Report
from imagedata_xr.pacs.send import send

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Send files as they are, and return the exit status."""
    place = place_from(arguments)
    if arguments.commit and isinstance(place, str):
        msg = f"--commit is of DIMSE, and DICOMweb has no such thing: image_data query {place} tells what is there"
        raise UsageError(msg)
    url = place if isinstance(place, str) else place.url
    status = ALL_DONE
    report = Report()
    try:
        with progress_bar(str(place), "instance", quiet=arguments.quiet) as progress:
            send(
                arguments.sources, place, jobs=arguments.jobs, commit=arguments.commit, progress=progress, so_far=report
            )
    except NotStoredError:
        status = PARTLY if len(report.failed) < len(report) else NETWORK
    finally:
        # Also where it is interrupted; nothing where it did not come to sending.
        if report:
            _tell(report, url, arguments)
    return status


def _tell(report: Report, url: str, arguments: argparse.Namespace) -> None:
    """Tell what became of each instance."""
    if arguments.json:
        print_json("send", pacs=url, instances=[instance._asdict() for instance in report])
    elif not arguments.quiet:
        say(f"{url}: {report.summary}")
    flush()
    for instance in report.failed:
        tell(f"image_data: not stored: {instance.path}: {instance.status}: {instance.reason}")
