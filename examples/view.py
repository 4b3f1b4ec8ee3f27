"""Look at a series: in the browser, or with ``--save`` as a page that needs nothing else.

::

    python examples/view.py [IN] [--save FILE.html]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import imagedata_xr as ixr


def main() -> None:
    """Show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", metavar="IN")
    parser.add_argument("--save", metavar="FILE.html")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or ixr.sample.write_patient(Path(folder, "phantom")) / "dynamic_1"
        image = ixr.open_series(source, "auto")
        viewer = image.dicom.view(save=arguments.save)
        if arguments.save:
            print(f"saved {arguments.save}")
        viewer.wait()  # frames are read as they are looked at
        if viewer.rois[0]:
            print(viewer.roi_statistics().to_dataframe())


if __name__ == "__main__":
    main()
