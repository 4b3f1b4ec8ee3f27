"""What is in a heap of DICOM: a table, every series that opens, and why the others do not.

On the phantom patient, or on folders and files of any kind::

    python examples/study.py
    python examples/study.py archive/2026 disc.dcm

A series that cannot be opened is named, the others are opened all the same; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import xarray as xr

import imagedata_xr as ixr

COLUMNS = {
    "SeriesNumber": "number",
    "SeriesDescription": "series",
    "Modality": "modality",
    "frames": "frames",
    "orientation": "axes",
    "spacing": "spacing [mm]",
    "order": "order",
    "shape": "shape",
}


def main() -> int:
    """Print what is there, open it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, help="folders and files (default: the phantom's)")
    sources = parser.parse_args().sources
    if sources:
        return show(sources)
    with tempfile.TemporaryDirectory() as folder:
        return show([ixr.sample.write_patient(Path(folder) / "phantom")])


def show(sources: list[Path]) -> int:
    """Print the table and the images of a heap, and return 1 if something could not be opened."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        table = ixr.scan(sources, errors="warn")
        study = ixr.open_study(sources, errors="warn")
    print(table[[*COLUMNS]].rename(columns=COLUMNS).to_string(index=False))
    print()
    for node in study.leaves:
        if node.has_data:
            print(f"{node.path}: {describe(node['image'])}")
    # The table and the tree both warn of a damaged file.
    left_out = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    for message in left_out:
        print(message, file=sys.stderr)
    return 1 if left_out else 0


def describe(image: xr.DataArray) -> str:
    """Return dims, sizes, type, and lowest and highest value of the middle slice."""
    sizes = ", ".join(f"{dim} {size}" for dim, size in image.sizes.items())
    middle = image.isel(slice=image.sizes["slice"] // 2).compute()  # reads this slice only
    return f"{sizes}; {middle.dtype}, {middle.min().item():.5g} to {middle.max().item():.5g}"


if __name__ == "__main__":
    sys.exit(main())
