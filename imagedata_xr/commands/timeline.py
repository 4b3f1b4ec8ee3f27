"""``image_data timeline IN...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagedata_xr.commands.opening import check_no_network
from imagedata_xr.commands.report import ALL_DONE, UsageError, print_json, say

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Tell the times of each source, and return the exit status."""
    from imagedata_xr.api import open_series

    check_no_network(*arguments.sources)
    found: list[dict[str, Any]] = []
    for source in arguments.sources:
        image = open_series(source, arguments.order)
        if "time" not in image.dims:
            msg = f"--order {arguments.order}: time is to be among the dims, such as time,te; of {source} they are "
            raise UsageError(msg + ", ".join(map(str, image.dims)))
        found.append({"source": str(source), "times": image.dicom.timeline.values.tolist()})
    if arguments.json:
        print_json("timeline", unit="s", series=found)
        return ALL_DONE
    for entry in found:
        times = [f"{t:.12g}" for t in entry["times"]]
        say("\n".join(times) if arguments.one else " ".join(times))
    return ALL_DONE
