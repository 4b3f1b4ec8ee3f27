"""Mean over time of a series, sent to a PACS; what became of each instance is told.

Without an address a receiver on this machine plays the PACS::

    python examples/to_pacs.py [IN] [dicom://host:port/AETITLE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import imagedata_xr as ixr
from imagedata_xr.errors import NotStoredError
from imagedata_xr.pacs.receive import Receiver


def main() -> int:
    """Send and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", metavar="IN")
    parser.add_argument("pacs", nargs="?", metavar="PACS")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = arguments.source or ixr.sample.write_patient(scratch / "phantom") / "dynamic_1"
        pacs = arguments.pacs or stack.enter_context(Receiver(scratch / "inbox", port=0)).peer
        image = ixr.open_series(source, "time")
        mean = image.mean("time").assign_attrs(SeriesDescription="mean over time")
        try:
            report = mean.dicom.send(pacs)
        except NotStoredError as error:
            for instance in error.report.failed:
                print(f"{instance.path}: {instance.status}: {instance.reason}", file=sys.stderr)
            return 1
        print(f"{pacs}: {report.summary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
