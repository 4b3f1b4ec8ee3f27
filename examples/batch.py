"""Mean of every series over its tag dims, many series at a time.

Each folder in IN holds one series and gives a folder of the same name in OUT::

    python examples/batch.py IN OUT --processes 4

A series that cannot be done is named, the others are written all the same; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import imagedata_xr as ixr


def write_mean(source: Path, target: Path) -> str:
    """Write the mean of one series, and return what was done in a line."""
    image = ixr.open_series(source)
    tag_dims = [dim for dim in image.dims if dim not in ("slice", "row", "col")]
    mean = image.mean(tag_dims) if tag_dims else image
    mean = mean.assign_attrs(SeriesDescription=f"mean of {image.attrs.get('SeriesDescription', source.name)}")
    files = mean.dicom.write(target)
    return f"{source.name}: {dict(image.sizes)} -> {len(files)} files"


def main() -> int:
    """Hand out the series to processes and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    folders = sorted(folder for folder in arguments.source.iterdir() if folder.is_dir())
    failed = 0
    # "spawn" starts every process afresh, as on Windows and macOS: no threads or locks are inherited.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        jobs = {pool.submit(write_mean, folder, arguments.target / folder.name): folder for folder in folders}
        for job in as_completed(jobs):
            try:
                print(job.result(), flush=True)
            except (OSError, ValueError) as error:
                failed += 1
                print(f"{jobs[job].name}: {error}", file=sys.stderr)
    return 1 if failed else 0


# Every process imports this file: without the guard each would start the batch again.
if __name__ == "__main__":
    sys.exit(main())
