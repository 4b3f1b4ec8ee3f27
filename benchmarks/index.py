"""Measure an index that lasts over many files: ``python benchmarks/index.py WORK --files 100000``.

Small files are made in ``WORK/heap``, 2,500 a series, once. Then the table of all series is made without an index,
with an index that is new, with one that knows all, and after some files have changed; each in a process of its own,
which prints seconds and the memory that it took over its imports.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cases import _memory as memory  # beside this file
from make_series import make_series

SERIES = (50, 50, 8, 8)


def one(heap: Path, index: Path | None) -> None:
    """Scan once, and print what it cost."""
    from imagedata_xr.dicom.scan import scan

    base, start = memory("VmRSS"), time.perf_counter()
    tables = scan(heap, index=index)
    seconds = time.perf_counter() - start
    frames = sum(map(len, tables.values()))
    print(f"{seconds:8.2f} s {seconds / frames * 1e6:8.1f} us a file, {(memory('VmHWM') - base) / 1e6:8.1f} MB")


def main() -> None:
    """Make the files, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the files and the index")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--one", choices=("with", "without"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    heap, index = options.work / "heap", options.work / "index"
    if options.one:
        one(heap, index if options.one == "with" else None)
        return
    for number in range(max(1, options.files // (SERIES[0] * SERIES[1]))):
        if not (heap / str(number)).exists():
            make_series(heap / str(number), SERIES, blob=64)
    shutil.rmtree(index, ignore_errors=True)
    files = [os.path.join(folder, name) for folder, _, names in os.walk(heap) for name in names]  # noqa: PTH118 - the fastest there is
    print(f"{len(files)} files")
    again = [sys.executable, __file__, str(options.work), "--one"]
    cases = {"no index": "without", "no index, again": "without", "new index": "with", "reopened": "with"}
    for what, how in cases.items():
        print(f"{what:20}", end="", flush=True)
        subprocess.run([*again, how], check=True)
    for file in files[::100]:
        os.utime(file)
    print(f"{'1 % changed':20}", end="", flush=True)
    subprocess.run([*again, "with"], check=True)
    size = sum(part.stat().st_size for part in index.iterdir())
    print(f"index: {size / len(files):.1f} bytes a file")


if __name__ == "__main__":
    main()
