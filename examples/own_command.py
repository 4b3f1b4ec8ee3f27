"""A command of one's own with the options of `image_data`: the time of the highest value of each voxel.

::

    python examples/own_command.py OUT IN --order time
"""

from __future__ import annotations

import argparse
from pathlib import Path

from imagedata_xr.cli import add_options, open_from


def main() -> None:
    """Open as the options say, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("source", type=Path, help="a dynamic series")
    add_options(parser)
    arguments = parser.parse_args()
    image = open_from(arguments, arguments.source)
    peak = image["time"][image.argmax("time")].drop_vars("time").astype("float32")
    peak = image.mean("time").copy(data=peak.values)
    files = peak.assign_attrs(SeriesDescription="time to peak").dicom.write(arguments.out, overwrite=arguments.force)
    print(f"{arguments.out}: {len(files)} files")


if __name__ == "__main__":
    main()
