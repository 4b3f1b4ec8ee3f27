"""Every series of a heap to an output of its own, several at a time.

::

    python examples/convert_heap.py IN OUT --format nifti --jobs 4
    python examples/convert_heap.py IN OUT --scheduler tcp://host:8786

What fails is named, the rest is done all the same; run again, only what is missing is done. Without IN it makes a
phantom patient first. The exit code is 1 where something failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import imagedata_xr as ixr


def main() -> int:
    """Convert, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", metavar="IN")
    parser.add_argument("target", type=Path, nargs="?", default=Path("converted"), metavar="OUT")
    parser.add_argument("--format", default="nifti")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scheduler", help="address of a dask scheduler")
    arguments = parser.parse_args()
    phantom = arguments.target / "phantom"
    source = arguments.source or (phantom if phantom.exists() else ixr.sample.write_patient(phantom))
    client = None
    if arguments.scheduler:
        from distributed import Client

        client = Client(arguments.scheduler)
    batch = ixr.convert(
        source, arguments.target / "series", format=arguments.format, jobs=arguments.jobs, client=client
    )
    for result in batch.results:
        name = Path(result.output).name
        print(f"{name}: {result.status}" + (f", {result.reason}" if result.reason else f", {result.files} files"))
    return 1 if batch.failed else 0


# Every process imports this file: without the guard each would start the batch again.
if __name__ == "__main__":
    sys.exit(main())
